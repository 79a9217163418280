package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Secret is a text that is sent as a credential and never shown.
type Secret struct{ masked }

func (Secret) secret() {}

// Set takes text that a header can hold. A line end behind it, as a file has that
// it was read from, is left out.
func (s *Secret) Set(text string) error {
	text = strings.TrimRight(text, "\r\n")
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("holds a blank, a line end or another character that a header cannot hold")
	}
	s.masked = mask(text, redacted)
	return nil
}

// EncryptionKeys are keys of 32 bytes that are never shown.
type EncryptionKeys struct{ masked }

func (EncryptionKeys) secret() {}

const encryptionKeyBytes = 32

// All returns the 32 bytes of each; nil if there is no key.
func (k EncryptionKeys) All() (keys [][]byte) {
	for key := range slices.Chunk([]byte(k.Reveal()), encryptionKeyBytes) {
		keys = append(keys, key)
	}
	return keys
}

// Set reads keys that commas part: hexadecimal digits, or base64 in any of its
// alphabets.
func (k *EncryptionKeys) Set(text string) error {
	if text == "" {
		k.masked = masked{}
		return nil
	}
	var all []byte
	for one := range strings.SplitSeq(text, ",") {
		key := decodeKey(strings.TrimSpace(one))
		if key == nil {
			return errors.New("is not a key of 32 bytes, nor several that commas part")
		}
		all = append(all, key...)
	}
	k.masked = mask(string(all), redacted)
	return nil
}

// decodeKey returns nil for what is no key.
func decodeKey(text string) []byte {
	decoders := []func(string) ([]byte, error){
		hex.DecodeString,
		base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	}
	for _, decode := range decoders {
		if key, err := decode(text); err == nil && len(key) == encryptionKeyBytes {
			return key
		}
	}
	return nil
}

// DatabaseURL is where Postgres is, and how to log in; never shown.
type DatabaseURL struct{ masked }

func (DatabaseURL) secret() {}

// Set takes a postgres:// URL with a host, be it in the query. Its errors
// repeat no part of the text: even a parser's complaint may quote a password.
func (d *DatabaseURL) Set(text string) error {
	if text != "" {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return errors.New("is not a URL")
		case !slices.Contains([]string{"postgres", "postgresql"}, u.Scheme):
			return errors.New("is not a URL with the scheme postgres")
		case u.Host == "" && u.Query().Get("host") == "":
			return errors.New("has no host")
		}
	}
	d.masked = mask(text, redacted)
	return nil
}
