package config

import (
	"fmt"
	"os"
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

// settingsOf lists the settings of a binary in the order of declaration.
func settingsOf(dst Settings) []setting {
	return appendSettings(nil, reflect.ValueOf(dst).Elem())
}

func appendSettings(list []setting, section reflect.Value) []setting {
	for i := range section.NumField() {
		field := section.Type().Field(i)
		if name, ok := field.Tag.Lookup("env"); ok {
			list = append(list, setting{name: name, tag: field.Tag, value: section.Field(i)})
		} else if field.Anonymous && field.Type.Kind() == reflect.Struct {
			list = appendSettings(list, section.Field(i))
		}
	}
	return list
}

// alias reports whether the name without the prefix is read too.
func (s setting) alias() bool { return s.tag.Get("alias") == "true" }

// secret reports whether the value may come from a file and is not shown.
func (s setting) secret() bool {
	_, ok := s.value.Interface().(interface{ secret() })
	return ok
}

// lookup returns what the environment holds, as envconfig would.
func (s setting) lookup() (text string, set bool) {
	text, set = os.LookupEnv(prefixed(s.name))
	if !set && s.alias() {
		text, set = os.LookupEnv(s.name)
	}
	return text, set
}

// variable is the name that the value came from, or should come from.
func (s setting) variable() string {
	if s.alias() {
		_, long := os.LookupEnv(prefixed(s.name))
		_, short := os.LookupEnv(s.name)
		if short && !long && os.Getenv(prefixed(s.name)+fileSuffix) == "" {
			return s.name
		}
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
