package streams

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"fusillade/internal/batch"
)

// ErrToken is returned for a subject, token or key that this package did not make.
var ErrToken = errors.New("malformed token")

const upperHex = "0123456789ABCDEF"

// Token escapes a model's name for use as a subject token and as a KV key:
// letters, digits, '-' and '_' stand for themselves, every other byte becomes
// '=' and two hexadecimal digits, as in quoted-printable (RFC 2045 §6.7). It
// is reversible for any name; '=' is the only escape character that subjects,
// consumer names and KV keys all allow.
func Token(m batch.Model) string {
	plain := true
	for i := range len(m) {
		if !plainByte(m[i]) {
			plain = false
			break
		}
	}
	if plain {
		return string(m)
	}
	var b strings.Builder
	b.Grow(len(m) + 16)
	for i := range len(m) {
		if c := m[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// ParseToken reverses Token. It returns ErrToken for what Token never writes.
func ParseToken(token string) (batch.Model, error) {
	var b strings.Builder
	b.Grow(len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plainByte(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("model token %q: %w", token, ErrToken)
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 || plainByte(byte(hi<<4|lo)) {
			return "", fmt.Errorf("model token %q: %w", token, ErrToken)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("model token %q: %w", token, ErrToken)
	}
	return batch.Model(b.String()), nil
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// maxConsumerName stays below the server's limit of 255 bytes for names that
// become directories.
const maxConsumerName = 200

// ConsumerName is the durable consumer that feeds a model: its token, or for
// very long names a prefix of it and a hash, joined by what no token holds.
func ConsumerName(m batch.Model) string {
	token := Token(m)
	if len(token) <= maxConsumerName {
		return token
	}
	sum := sha256.Sum256([]byte(m))
	return token[:maxConsumerName-34] + "==" + hex.EncodeToString(sum[:16])
}
