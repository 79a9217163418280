package config

import (
	"reflect"
	"strings"
	"testing"
)

// Each role gets, from the settings of a process that has all of them, every
// section that it has: the one that is in force there.
func TestSectionsOfRoles(t *testing.T) {
	all := new(Standalone)
	whole := reflect.ValueOf(all).Elem()
	fill(t, whole)
	for _, role := range []any{all.Dispatcher(), all.Consumer(), all.API()} {
		part := reflect.ValueOf(role)
		for i := range part.NumField() {
			section := part.Type().Field(i).Name
			want := whole.FieldByName(section)
			if !want.IsValid() {
				t.Errorf("%T has a section %s, which Standalone lacks", role, section)
			} else if want.IsZero() || !reflect.DeepEqual(part.Field(i).Interface(), want.Interface()) {
				t.Errorf("%T is not given the section %s", role, section)
			}
		}
	}
	for _, settings := range []Settings{new(Dispatcher), new(Consumer), new(API)} {
		for _, s := range settingsOf(settings) {
			found := false
			for _, known := range settingsOf(all) {
				found = found || known.name == s.name
			}
			if !found {
				t.Errorf("%T reads %s, which Standalone does not", settings, s.name)
			}
		}
	}
}

// fill sets the first plain field that it finds in each section.
func fill(t *testing.T, settings reflect.Value) {
	t.Helper()
	for i := range settings.NumField() {
		section := settings.Field(i)
		for j := range section.NumField() {
			switch field := section.Field(j); field.Kind() {
			case reflect.Int, reflect.Int64:
				field.SetInt(int64(100*i + j + 1))
			case reflect.String:
				field.SetString(section.Type().Name())
			case reflect.Bool:
				field.SetBool(true)
			}
		}
		if section.IsZero() {
			setter := section.Field(0).Addr().Interface().(interface{ Set(string) error })
			if setter.Set("http://example.com") != nil && setter.Set(strings.Repeat("ab", 32)) != nil {
				t.Fatalf("the section %s could not be filled", section.Type().Name())
			}
		}
	}
}
