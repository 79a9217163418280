package upstream

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

// WithModel returns the body with another model in its top-level "model", and
// every other byte as it was. Where the name is given more than once each of
// them is replaced, so that it does not matter which one an endpoint takes. A
// body without one, or that is no JSON object, is returned as it is. The body
// itself is not changed. An error holds nothing of the body.
func WithModel(body []byte, model batch.Model) ([]byte, error) {
	name, err := jsontext.AppendQuote(nil, string(model))
	if err != nil {
		return nil, errors.New("the model's name is not valid UTF-8")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != jsontext.KindBeginObject {
		return body, nil
	}
	var out []byte
	copied := 0 // bytes of body that out has, or that were replaced in it
	step := func() (jsontext.Value, error) {
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON (byte %d)", d.InputOffset()+1)
		}
		return value, nil
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errors.New("the body is not JSON")
	}
	for d.PeekKind() != jsontext.KindEndObject {
		key, err := step()
		if err != nil {
			return nil, err
		}
		isModel := isName(key, "model")
		value, err := step()
		if err != nil {
			return nil, err
		}
		if !isModel {
			continue
		}
		end := int(d.InputOffset())
		out = append(append(out, body[copied:end-len(value)]...), name...)
		copied = end
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("the body is not JSON (byte %d)", d.InputOffset()+1)
	}
	if copied == 0 {
		return body, nil
	}
	return append(out, body[copied:]...), nil
}

// isName reports whether a quoted JSON string stands for the name, however it
// is escaped.
func isName(quoted jsontext.Value, name string) bool {
	text, err := jsontext.AppendUnquote(nil, quoted)
	return err == nil && string(text) == name
}
