package endpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"unicode/utf8"
)

const (
	// MaxURLs bounds at how many URLs an endpoint can be reached.
	MaxURLs = 64
	// maxModelBytes is that of a model's name in a file.
	maxModelBytes = 256
)

// Options is how an endpoint wants to be spoken to. Nil and the zero value: as
// OpenAI's.
type Options struct {
	// More are the base URLs beside the endpoint's first: the same models are
	// there, and any of them may be called.
	More []string
	Auth Auth
	// Headers are sent with every call.
	Headers Headers
	Path    Path
	// Model is what the endpoint calls the model; empty: as the file does.
	Model string
	// Stream says whether calls ask for a streamed answer that do not by themselves.
	Stream Switch
	// SendPriority says whether calls tell the endpoint how urgent they are.
	SendPriority Switch
}

// IsZero reports whether the endpoint is spoken to as OpenAI's.
func (o *Options) IsZero() bool {
	return o == nil || len(o.More) == 0 && o.Auth == "" && len(o.Headers) == 0 && o.Path == "" && o.Model == "" && o.Stream == "" && o.SendPriority == ""
}

// Plain reports whether nothing in it has to do with where a key goes: it has a
// model's name, whether to stream or to send a priority, and nothing else.
func (o *Options) Plain() bool {
	return o == nil || len(o.More) == 0 && o.Auth == "" && len(o.Headers) == 0 && o.Path == ""
}

// Credentials is what tells the endpoint who calls, beside the API key: where that
// goes, and the headers. It is a secret; empty: nothing does.
func (o *Options) Credentials() string {
	if o == nil || o.Auth == "" && len(o.Headers) == 0 {
		return ""
	}
	return fmt.Sprintf("%q %s", o.Auth, o.Headers.JSON())
}

// With returns the options with those of another laid over them: what it does
// not say stays.
func (o *Options) With(over *Options) *Options {
	switch {
	case over.IsZero():
		return o
	case o.IsZero():
		return over
	}
	all := *o
	if len(over.More) > 0 {
		all.More = over.More
	}
	all.Auth, all.Path, all.Model = cmp.Or(over.Auth, o.Auth), cmp.Or(over.Path, o.Path), cmp.Or(over.Model, o.Model)
	all.Stream, all.SendPriority = cmp.Or(over.Stream, o.Stream), cmp.Or(over.SendPriority, o.SendPriority)
	for _, h := range over.Headers {
		_ = all.Headers.Set(h.Name, h.Value) // both were checked; beyond the most that there may be the first stay
	}
	return &all
}

// stored is Options without the values of headers.
type stored struct {
	More         []string `json:"urls,omitempty"`
	Auth         Auth     `json:"auth,omitempty"`
	Headers      []string `json:"headers,omitempty"`
	Path         Path     `json:"path,omitempty"`
	Model        string   `json:"model,omitempty"`
	Stream       Switch   `json:"stream,omitempty"`
	SendPriority Switch   `json:"send_priority,omitempty"`
}

// Encode returns all of it but the values of headers, as Decode reads it; empty
// for the zero value.
func (o *Options) Encode() string {
	if o.IsZero() {
		return ""
	}
	text, err := json.Marshal(stored{o.More, o.Auth, o.Headers.Names(), o.Path, o.Model, o.Stream, o.SendPriority})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(text)
}

// Decode reads what Encode returned; headers have no values. Nil: the zero value.
func Decode(text string) (*Options, error) {
	if text == "" {
		return nil, nil
	}
	var s stored
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, errors.New("the options of the endpoint are not those that were set")
	}
	o := &Options{More: s.More, Auth: s.Auth, Path: s.Path, Model: s.Model, Stream: s.Stream, SendPriority: s.SendPriority}
	for _, name := range s.Headers {
		o.Headers = append(o.Headers, Header{Name: name})
	}
	return o, nil
}

// WithSecrets returns the options with the values of their headers, as
// Headers.JSON wrote them.
func (o *Options) WithSecrets(headers string) (*Options, error) {
	parsed, err := ParseHeaders(headers)
	if err != nil || !slices.Equal(parsed.Names(), o.Headers.Names()) {
		return nil, errors.New("the headers of the endpoint are not those that were set")
	}
	all := *o
	all.Headers = parsed
	return &all, nil
}

// CheckModel refuses what cannot be a model's name.
func CheckModel(name string) error {
	if !utf8.ValidString(name) || len(name) > maxModelBytes {
		return fmt.Errorf("is a model's name that is not UTF-8 or has more than %d bytes", maxModelBytes)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return errors.New("is a model's name with a control character")
		}
	}
	return nil
}

// Shown is a URL without what may be secret in it: user and query.
func Shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	return u.String()
}
