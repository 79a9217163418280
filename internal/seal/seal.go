// Package seal encrypts what is secret for the database: AES-256-GCM with a
// random nonce. What a text is about is authenticated with it, so that a sealed
// text that is copied to another row does not open there.
//
// A sealed text is
//
//	version (1 byte, 1) | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag
//
// The key id tells, without a secret, which key sealed it, so that a text of
// another key is not mistaken for one that was tampered with, and that keys can
// take turns some day.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

const (
	version     = 1
	idBytes     = 4
	headerBytes = 1 + idBytes
)

// Why a text cannot be sealed or opened. They hold no secret.
var (
	ErrNoKey    = errors.New("no encryption key is set")
	ErrOtherKey = errors.New("it was encrypted with another key")
	ErrCorrupt  = errors.New("it was not encrypted for this, or was changed")
)

// Box seals and opens. A nil one has no key. It is safe for concurrent use.
type Box struct {
	aead   cipher.AEAD
	header []byte
}

// New returns a box with a key of KeyBytes; nil for no key at all.
func New(key []byte) (*Box, error) {
	if len(key) == 0 {
		return nil, nil
	}
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("encryption key has %d bytes, want %d", len(key), KeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing encryption: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("preparing encryption: %w", err)
	}
	id := hmac.New(sha256.New, key)
	id.Write([]byte("fusillade encryption key id"))
	return &Box{aead: aead, header: append([]byte{version}, id.Sum(nil)[:idBytes]...)}, nil
}

// Seal encrypts a secret. about says what it belongs to, and must be given
// again to open it. It returns ErrNoKey.
func (b *Box) Seal(about, secret string) ([]byte, error) {
	if b == nil {
		return nil, ErrNoKey
	}
	return b.aead.Seal(bytes.Clone(b.header), nil, []byte(secret), b.authenticated(about)), nil
}

// Open decrypts what Seal returned. It returns ErrNoKey, ErrOtherKey or
// ErrCorrupt.
func (b *Box) Open(about string, sealed []byte) (string, error) {
	switch {
	case b == nil:
		return "", ErrNoKey
	case len(sealed) < headerBytes || sealed[0] != version:
		return "", ErrCorrupt
	case !bytes.Equal(sealed[:headerBytes], b.header):
		return "", ErrOtherKey
	}
	secret, err := b.aead.Open(nil, nil, sealed[headerBytes:], b.authenticated(about))
	if err != nil {
		return "", ErrCorrupt
	}
	return string(secret), nil
}

func (b *Box) authenticated(about string) []byte { return append(bytes.Clone(b.header), about...) }
