package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"fusillade/internal/batch"
)

// A setting per model has two spellings. The short one is model=value,… with
// blanks around elements ignored; a name in it has no comma, and no blank or
// brace at its ends. JSON, an object with a member per model, holds any name.

// eachPair calls set with the number, name and value of every element of the
// short spelling. split cuts an element in two.
func eachPair(text string, split func(string) (name, value string, ok bool), set func(int, string, string) error) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for i, element := range strings.Split(text, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			return fmt.Errorf("has an empty element, number %d", i+1)
		}
		name, value, ok := split(element)
		if !ok {
			return fmt.Errorf("has an element without a value, number %d", i+1)
		}
		if err := set(i+1, strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// cutLast cuts at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(text, separator); i >= 0 {
		return text[:i], text[i+len(separator):], true
	}
	return text, "", false
}

func isJSON(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

// eachMember calls set with every member of a JSON object. It sees names that
// occur twice, of which a map would keep the last.
func eachMember(text string, set func(name string, value json.RawMessage) error) error {
	errSyntax := errors.New("is not a JSON object")
	decoder := json.NewDecoder(strings.NewReader(text))
	if _, err := decoder.Token(); err != nil || !utf8.ValidString(text) {
		return errSyntax
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return errSyntax
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return errSyntax
		}
		if err := set(name.(string), value); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errSyntax
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something after the JSON object")
	}
	return nil
}

// eachText calls set with the name and value of every element of either spelling,
// of a setting whose values are texts; what says what they are. In the short one
// the value follows the last equals sign of its element.
func eachText(text, what string, set func(name, value string) error) error {
	if isJSON(text) {
		return eachMember(text, func(name string, raw json.RawMessage) error {
			var value string
			if json.Unmarshal(raw, &value) != nil {
				return fmt.Errorf("has an element whose %s is no string", what)
			}
			return set(name, value)
		})
	}
	return eachPair(text, func(element string) (string, string, bool) { return cutLast(element, "=") },
		func(_ int, name, value string) error { return set(name, value) })
}

// modelName checks a name.
func modelName(name string) (batch.Model, error) {
	if name == "" || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("has %s, which cannot be a model's name", quote(name))
	}
	return batch.Model(name), nil
}

// insert adds a value under a name that must be new and a model's.
func insert[V any](values map[batch.Model]V, name string, value V) error {
	model, err := modelName(name)
	if err != nil {
		return err
	}
	if _, twice := values[model]; twice {
		return fmt.Errorf("has the model %s twice", quote(name))
	}
	values[model] = value
	return nil
}

// isShort reports whether the short spelling can hold the name.
func isShort(model batch.Model) bool {
	name := string(model)
	return name == strings.TrimSpace(name) && !strings.ContainsAny(name, ",{")
}

// spell spells the values shortly where that holds their names, else as JSON.
func spell[V any](values map[batch.Model]V, text func(V) string) string {
	texts := make(map[batch.Model]string, len(values))
	shortly := true
	for model, value := range values {
		texts[model] = text(value)
		shortly = shortly && isShort(model)
	}
	if shortly {
		return short(values, text)
	}
	return long(texts)
}

// short spells the values shortly, in the order of the names.
func short[V any](values map[batch.Model]V, spell func(V) string) string {
	elements := make([]string, 0, len(values))
	for _, model := range slices.Sorted(maps.Keys(values)) {
		elements = append(elements, string(model)+"="+spell(values[model]))
	}
	return strings.Join(elements, ",")
}

// long spells the values as JSON, in the order of the names.
func long[V any](values map[batch.Model]V) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(values); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(text.String(), "\n")
}
