// Package seal encrypts what is secret for the database: AES-256-GCM with a
// random nonce. What a text is about is authenticated with it, so that a sealed
// text that is copied to another row does not open there.
//
// A sealed text is
//
//	version (1 byte, 1) | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag
//
// The key id tells, without a secret, which key sealed it, so that a text of
// another key is not mistaken for one that was tampered with, and keys can be
// rotated: of several the first seals, and all open.
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
	nonceBytes  = 12
	tagBytes    = 16
)

// Why a text cannot be sealed or opened. They hold no secret.
var (
	ErrNoKey    = errors.New("no encryption key is set")
	ErrOtherKey = errors.New("it was encrypted with another key")
	ErrCorrupt  = errors.New("it was not encrypted for this, or was changed")
)

// Keyring seals and opens. A nil one has no key. It is safe for concurrent use.
type Keyring struct{ keys []cipherKey }

// cipherKey is one key, ready for use.
type cipherKey struct {
	aead   cipher.AEAD
	header []byte
}

// New returns a Keyring with keys of KeyBytes, of which the first seals and all
// open; nil for no key at all.
func New(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	b := new(Keyring)
	for _, key := range keys {
		l, err := newCipherKey(key)
		if err != nil {
			return nil, err
		}
		b.keys = append(b.keys, l)
	}
	return b, nil
}

func newCipherKey(key []byte) (l cipherKey, err error) {
	if len(key) != KeyBytes {
		return l, fmt.Errorf("encryption key has %d bytes, want %d", len(key), KeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return l, fmt.Errorf("preparing encryption: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return l, fmt.Errorf("preparing encryption: %w", err)
	}
	id := hmac.New(sha256.New, key)
	id.Write([]byte("fusillade encryption key id"))
	return cipherKey{aead, append([]byte{version}, id.Sum(nil)[:idBytes]...)}, nil
}

// Seal encrypts a secret. binding says what it belongs to, and must be given
// again to open it. It returns ErrNoKey.
func (b *Keyring) Seal(binding, secret string) ([]byte, error) {
	if b == nil {
		return nil, ErrNoKey
	}
	l := b.keys[0]
	return l.aead.Seal(bytes.Clone(l.header), nil, []byte(secret), l.authenticated(binding)), nil
}

// Open decrypts what Seal returned. It returns ErrNoKey, ErrOtherKey or
// ErrCorrupt.
func (b *Keyring) Open(binding string, sealed []byte) (string, error) {
	switch {
	case b == nil:
		return "", ErrNoKey
	case len(sealed) < headerBytes || sealed[0] != version:
		return "", ErrCorrupt
	}
	why := ErrOtherKey
	for _, l := range b.keys {
		if !bytes.HasPrefix(sealed, l.header) {
			continue
		}
		secret, err := l.aead.Open(nil, nil, sealed[headerBytes:], l.authenticated(binding))
		if err == nil {
			return string(secret), nil
		}
		why = ErrCorrupt
	}
	return "", why
}

// HoldsSecret reports whether a sealed text holds a secret that is not empty.
func HoldsSecret(sealed []byte) bool { return len(sealed) > headerBytes+nonceBytes+tagBytes }

// Reseal seals anew, with the first key, what another one sealed. It returns nil
// for what the first key sealed already, and the errors of Open.
func (b *Keyring) Reseal(binding string, sealed []byte) ([]byte, error) {
	secret, err := b.Open(binding, sealed)
	if err != nil || bytes.HasPrefix(sealed, b.keys[0].header) {
		return nil, err
	}
	return b.Seal(binding, secret)
}

func (l cipherKey) authenticated(binding string) []byte {
	return append(bytes.Clone(l.header), binding...)
}
