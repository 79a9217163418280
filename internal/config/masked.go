package config

import (
	"fmt"
	"io"
	"log/slog"
)

// masked is a text that shows itself only through Reveal: whatever is printed,
// logged or marshalled is its mask. The text is behind a pointer, so that it
// stays hidden in the unexported field of a struct that is printed whole,
// where fmt calls no method.
type masked struct {
	text *string
	mask string
}

const redacted = "[redacted]"

func mask(text, mask string) masked {
	if text == "" {
		return masked{}
	}
	return masked{text: &text, mask: mask}
}

// Reveal returns the text itself.
func (m masked) Reveal() string {
	if m.text == nil {
		return ""
	}
	return *m.text
}

// IsSet reports whether there is a text.
func (m masked) IsSet() bool { return m.text != nil }

// String returns the mask; empty if there is no text.
func (m masked) String() string { return m.mask }

// Format writes the mask, whatever the verb.
func (m masked) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.mask) }

// LogValue logs the mask.
func (m masked) LogValue() slog.Value { return slog.StringValue(m.mask) }

// MarshalText encodes the mask, in JSON too.
func (m masked) MarshalText() ([]byte, error) { return []byte(m.mask), nil }
