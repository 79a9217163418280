package upstream

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxHeaderValueBytes is the longest value that SanitizeHeaderValue returns.
const MaxHeaderValueBytes = 4096

// ErrHeader is returned for a name or value that an HTTP header cannot hold.
var ErrHeader = errors.New("not a legal header")

// SanitizeHeaderValue makes any string a legal header value: control
// characters become spaces, bytes that are not UTF-8 become U+FFFD, space
// around the value goes, and so does what exceeds MaxHeaderValueBytes. A value
// that is legal already is returned as it is; other UTF-8 text is kept.
func SanitizeHeaderValue(value string) string {
	if isPlain(value) {
		return value
	}
	value = strings.ToValidUTF8(value, "\uFFFD")
	value = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, value)
	value = truncate(strings.Trim(value, " "), MaxHeaderValueBytes)
	return strings.TrimRight(value, " ")
}

// ValidHeaderName returns ErrHeader unless the name is a token of RFC 9110.
func ValidHeaderName(name string) error {
	if name == "" {
		return ErrHeader
	}
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return ErrHeader
		}
	}
	return nil
}

// ValidHeaderValue returns ErrHeader if the value holds a control character.
func ValidHeaderValue(value string) error {
	if strings.ContainsFunc(value, isControl) {
		return ErrHeader
	}
	return nil
}

func isPlain(value string) bool {
	if len(value) > MaxHeaderValueBytes {
		return false
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return value == "" || value[0] != ' ' && value[len(value)-1] != ' '
}

// isControl holds for C1 controls too: some servers refuse or strip them.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

func isTokenByte(b byte) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// truncate cuts valid UTF-8 to at most limit bytes, between runes.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
