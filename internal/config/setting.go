package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

const fileSuffix = "_FILE"

// setting is one field of a section.
type setting struct {
	name  string // of the variable, without the prefix
	tag   reflect.StructTag
	value reflect.Value
}

// secret reports whether the value may come from a file and is not shown.
func (s setting) secret() bool {
	_, ok := s.value.Interface().(interface{ secret() })
	return ok
}

// variable is the name that the value comes from, or should come from.
func (s setting) variable() string {
	if _, variable, err := s.lookup(); err == nil && variable != "" && !strings.HasSuffix(variable, fileSuffix) {
		return variable
	}
	return prefixed(s.name)
}

// text is the value as the variable could hold it, secrets hidden.
func (s setting) text() string { return fmt.Sprint(s.value.Interface()) }

// number returns the value in its unit; ok is false if it is no number or none.
func (s setting) number() (n int64, ok bool) {
	switch v := s.value.Interface().(type) {
	case int:
		return int64(v), true
	case Milliseconds:
		return v.Duration().Milliseconds(), true
	case OptionalInt:
		return int64(v.Value), !v.None
	case OptionalMilliseconds:
		return v.Value.Duration().Milliseconds(), !v.None
	}
	return 0, false
}

// limits returns the range of a number.
func (s setting) limits() (low, high int64) {
	low, _ = strconv.ParseInt(s.tag.Get("min"), 10, 64)
	high = int64(maxMilliseconds)
	if text := s.tag.Get("max"); text != "" {
		high, _ = strconv.ParseInt(text, 10, 64)
	}
	return low, high
}

// allowed says what the value may be.
func (s setting) allowed() string {
	if text := s.tag.Get("allowed"); text != "" {
		return text
	}
	var text strings.Builder
	text.WriteString("a whole number")
	if unit := s.tag.Get("unit"); unit == "ms" {
		text.WriteString(" of milliseconds")
	}
	low, high := s.limits()
	fmt.Fprintf(&text, " from %d to %d", low, high)
	switch s.value.Interface().(type) {
	case OptionalInt, OptionalMilliseconds:
		text.WriteString(", or none")
	}
	return text.String()
}
