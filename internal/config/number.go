package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxMilliseconds is a year: what is meant to be longer is meant to be none.
const maxMilliseconds = 365 * 24 * 60 * 60 * 1000

const none = "none"

// Milliseconds is a time span that the environment spells as a whole number
// of milliseconds.
type Milliseconds time.Duration

// Duration is the time span as Go has it.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) }

// String returns the number of milliseconds.
func (m Milliseconds) String() string {
	return strconv.FormatInt(m.Duration().Milliseconds(), 10)
}

// Set reads a whole number of milliseconds.
func (m *Milliseconds) Set(text string) error {
	n, err := parseInteger(text)
	if err != nil {
		return err
	}
	if n > maxMilliseconds || n < -maxMilliseconds {
		return fmt.Errorf("is %d, which is out of range", n)
	}
	*m = Milliseconds(time.Duration(n) * time.Millisecond)
	return nil
}

// OptionalMilliseconds is Milliseconds or none. The zero value is zero
// milliseconds.
type OptionalMilliseconds struct {
	Value Milliseconds
	None  bool
}

// Pointer returns the time span, or nil for none.
func (m OptionalMilliseconds) Pointer() *time.Duration {
	if m.None {
		return nil
	}
	span := m.Value.Duration()
	return &span
}

// OrZero returns the time span, or 0 for none.
func (m OptionalMilliseconds) OrZero() time.Duration {
	if m.None {
		return 0
	}
	return m.Value.Duration()
}

// String returns the number of milliseconds, or none.
func (m OptionalMilliseconds) String() string {
	if m.None {
		return none
	}
	return m.Value.String()
}

// Set reads a whole number of milliseconds, or none.
func (m *OptionalMilliseconds) Set(text string) error {
	if m.None = strings.EqualFold(text, none); m.None {
		return nil
	}
	return m.Value.Set(text)
}

// OptionalInt is a whole number or none. The zero value is zero.
type OptionalInt struct {
	Value int
	None  bool
}

// Pointer returns the number, or nil for none.
func (o OptionalInt) Pointer() *int {
	if o.None {
		return nil
	}
	return &o.Value
}

// String returns the number, or none.
func (o OptionalInt) String() string {
	if o.None {
		return none
	}
	return strconv.Itoa(o.Value)
}

// Set reads a whole number, or none.
func (o *OptionalInt) Set(text string) error {
	if o.None = strings.EqualFold(text, none); o.None {
		return nil
	}
	n, err := parseInteger(text)
	o.Value = int(n)
	return err
}

// parseInteger reads a decimal number in its one spelling: no sign but minus,
// no zeros before it.
func parseInteger(text string) (int64, error) {
	if text == "" {
		return 0, errors.New("is empty")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("is %s, which is out of range", quote(text))
	}
	if err != nil || strconv.FormatInt(n, 10) != text {
		return 0, fmt.Errorf("is %s, which is not a whole number", quote(text))
	}
	return n, nil
}
