package config

import (
	"reflect"
	"strings"
	"testing"
)

// Each role gets from Standalone all that it would read itself.
func TestRolesGetEverySection(t *testing.T) {
	t.Parallel()
	all := new(Standalone)
	fill(reflect.ValueOf(all).Elem())
	for _, role := range []Settings{all.Dispatcher(), all.Consumer(), all.API()} {
		for _, s := range settingsOf(role) {
			if s.value.IsZero() {
				t.Errorf("%T lacks %s, which Standalone has", role, s.name)
			}
		}
	}
}

// fill makes no field zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if m, ok := v.Addr().Interface().(interface{ Set(string) error }); ok {
			for _, text := range []string{"1", "500", "x", "http://x", "postgres://x", "a=1", "a=b", "a=http://x", "keys", "text", "debug", strings.Repeat("ab", encryptionKeyBytes)} {
				if m.Set(text) == nil && !v.IsZero() {
					return
				}
			}
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	}
}
