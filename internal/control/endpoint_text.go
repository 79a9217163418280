package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fusillade/internal/endpoint"
)

// The fields of a change of an endpoint, as the API and InvalidChangeError name them.
const (
	FieldURLs         = "upstream_urls"
	FieldAPIKey       = "upstream_api_key"
	FieldAuth         = "upstream_auth"
	FieldHeaders      = "upstream_headers"
	FieldNoHeaders    = "no_upstream_headers"
	FieldPath         = "upstream_path"
	FieldModel        = "upstream_model"
	FieldStream       = "upstream_stream"
	FieldSendPriority = "upstream_send_priority"
	FieldDefault      = "default_upstream"
)

// ErrNotGranted is returned for a change that the role of this process may not make in
// the database.
var ErrNotGranted = errors.New("the database role of this process may not do that")

// MaxKeyBytes bounds an API key.
const MaxKeyBytes = 8 << 10

// EndpointText is a ModelEndpoint as it is written: not checked yet. Nil and the
// empty list leave things as they are.
type EndpointText struct {
	Default   bool
	URLs      []string
	APIKey    *string
	Auth      *string
	Path      *string
	Model     *string
	Stream    *string // on, off or default
	Priority  *string // the same
	NoHeaders bool
	Headers   map[string]string // an empty value removes one
}

// Parse returns the change that the text says, or an *InvalidChangeError. That
// holds nothing of a key, a header's value or a URL.
func (t *EndpointText) Parse() (e ModelEndpoint, err error) {
	e = ModelEndpoint{Default: t.Default, NoHeaders: t.NoHeaders}
	if len(t.URLs) > 0 {
		if e.URLs, err = endpoint.ParseURLs(t.URLs); err != nil {
			return e, invalidChange(FieldURLs, err)
		}
	}
	if t.APIKey != nil {
		if e.Key, err = ParseKey(*t.APIKey); err != nil {
			return e, invalidChange(FieldAPIKey, err)
		}
	}
	if e.Auth, err = parsed(t.Auth, endpoint.ParseAuth); err != nil {
		return e, invalidChange(FieldAuth, err)
	}
	if e.Path, err = parsed(t.Path, endpoint.ParsePath); err != nil {
		return e, invalidChange(FieldPath, err)
	}
	if e.Model, err = parsed(t.Model, func(name string) (string, error) { return name, endpoint.CheckModel(name) }); err != nil {
		return e, invalidChange(FieldModel, err)
	}
	if e.Stream, err = parsed(t.Stream, parseSwitch); err != nil {
		return e, invalidChange(FieldStream, err)
	}
	if e.SendPriority, err = parsed(t.Priority, parseSwitch); err != nil {
		return e, invalidChange(FieldSendPriority, err)
	}
	var checked endpoint.Headers
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		h := endpoint.Header{Name: name, Value: t.Headers[name]}
		if err := checked.Set(h.Name, h.Value); err != nil {
			return e, invalidChange(FieldHeaders, err)
		}
		e.Headers = append(e.Headers, h)
	}
	if e.Default && !e.onlyDefault() {
		return e, &InvalidChangeError{FieldDefault, "excludes everything else of the endpoint"}
	}
	return e, nil
}

func invalidChange(field string, err error) error { return &InvalidChangeError{field, err.Error()} }

// parsed reads what is given; nil stays nil.
func parsed[T any](text *string, parse func(string) (T, error)) (*T, error) {
	if text == nil {
		return nil, nil
	}
	value, err := parse(*text)
	return &value, err
}

// parseSwitch reads on, off or default, which is empty.
func parseSwitch(text string) (endpoint.Switch, error) {
	if text == "default" {
		return "", nil
	}
	if s, err := endpoint.ParseSwitch(text); err == nil && s != "" {
		return s, nil
	}
	return "", errors.New("is none of on, off and default")
}

// ParseKey returns an API key without the space around it. Its errors hold
// nothing of it.
func ParseKey(text string) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", errors.New("holds no key")
	case len(text) > MaxKeyBytes:
		return "", fmt.Errorf("holds a key of more than %d bytes", MaxKeyBytes)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("holds a blank, a line end or another character that a header cannot hold")
	}
	return text, nil
}

// onlyDefault reports whether nothing is given that default_upstream excludes.
func (e *ModelEndpoint) onlyDefault() bool {
	return !slices.Contains([]bool{
		len(e.URLs) == 0, e.Key == "", e.Auth == nil, e.Path == nil, e.Model == nil, e.Stream == nil, e.SendPriority == nil, !e.NoHeaders, len(e.Headers) == 0,
	}, false)
}
