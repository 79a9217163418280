package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// ModelUpstreams is the endpoint by model.
type ModelUpstreams map[batch.Model]ModelUpstream

func (ModelUpstreams) secret() {}

// ModelUpstream is the endpoint of one model, or how UPSTREAM_URL is spoken to
// for it.
type ModelUpstream struct {
	URL          HTTPURLs       // not set: UPSTREAM_URL
	APIKey       Secret         // not set: none, or UPSTREAM_URL's
	Auth         AuthScheme     // empty: bearer, or UPSTREAM_URL's; so are the others
	Headers      UpstreamHeader // laid over UPSTREAM_URL's
	Path         UpstreamPath
	Model        string // what the endpoint calls it
	Stream       Switch
	SendPriority Switch
}

func (m ModelUpstream) options() *endpoint.Options {
	return &endpoint.Options{Auth: m.Auth.Auth, Headers: m.Headers.Reveal(), Path: m.Path.Path, Model: m.Model, Stream: m.Stream.Switch, SendPriority: m.SendPriority.Switch}
}

// IsURL reports whether there is nothing but a URL.
func (m ModelUpstream) isURL() bool {
	return !m.APIKey.IsSet() && m.Auth.Auth == "" && !m.Headers.IsSet() && m.Path.Path == "" && m.Model == "" && m.Stream.Switch == "" && m.SendPriority.Switch == ""
}

// MarshalJSON writes what Set reads, secrets masked.
func (m ModelUpstream) MarshalJSON() ([]byte, error) {
	if m.isURL() {
		return json.Marshal(m.URL.String())
	}
	object := make(map[string]any)
	for name, value := range map[string]string{
		"url": m.URL.String(), "api_key": m.APIKey.String(), "auth": m.Auth.String(), "path": m.Path.String(), "model": m.Model, "stream": m.Stream.String(),
		"send_priority": m.SendPriority.String(),
	} {
		if value != "" {
			object[name] = value
		}
	}
	if m.Headers.IsSet() {
		object["headers"] = json.RawMessage(m.Headers.String())
	}
	return json.Marshal(object)
}

// String spells the endpoints as Set reads them, secrets masked.
func (m ModelUpstreams) String() string {
	for model, own := range m {
		if !isShort(model) || strings.ContainsAny(own.URL.String(), ", ") || strings.Contains(string(model), "=http") || !own.isURL() {
			return long(m)
		}
	}
	return short(m, func(own ModelUpstream) string { return own.URL.String() })
}

// Set reads gpt-4=https://api.example.com,… or
// {"gpt-4":"https://api.example.com"}, in which the value may be an object. In
// the short spelling an element is cut at the first =http:// or =https:// in it,
// or else at its first equals sign. Errors name the model, never a URL or secret.
func (m *ModelUpstreams) Set(text string) error {
	upstreams := ModelUpstreams{}
	set := func(name, value string) error {
		var own ModelUpstream
		if value == "" {
			return fmt.Errorf("has the model %s without a URL", quote(name))
		}
		if err := own.URL.Set(value); err != nil {
			return fmt.Errorf("has the model %s with a URL that %w", quote(name), err)
		}
		return insert(upstreams, name, own)
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(name string, value json.RawMessage) error {
			if strings.HasPrefix(string(value), "{") {
				own, err := readModelUpstream(value)
				if err != nil {
					return fmt.Errorf("has the model %s with %w", quote(name), err)
				}
				return insert(upstreams, name, own)
			}
			var endpoint string
			if err := json.Unmarshal(value, &endpoint); err != nil {
				return fmt.Errorf("has the model %s with a value that is neither a string nor an object", quote(name))
			}
			return set(name, endpoint)
		})
	} else {
		err = eachPair(text, cutUpstream, func(_ int, name, value string) error { return set(name, value) })
	}
	if err == nil {
		*m = upstreams
	}
	return err
}

// readModelUpstream reads the object of one model.
func readModelUpstream(text json.RawMessage) (own ModelUpstream, err error) {
	err = eachMember(string(text), func(name string, value json.RawMessage) error {
		set := map[string]func(string) error{
			"url": own.URL.Set, "api_key": own.APIKey.Set, "auth": own.Auth.Set, "headers": own.Headers.Set, "path": own.Path.Set, "stream": own.Stream.Set,
			"send_priority": own.SendPriority.Set,
			"model": func(text string) error {
				own.Model = text
				return endpoint.CheckModel(text)
			},
		}[name]
		if set == nil {
			return fmt.Errorf("the member %s, which is none of url, api_key, auth, headers, path, model, stream and send_priority", quote(name))
		}
		var content string
		switch {
		case name == "headers":
			content = string(value)
		case name == "url" && strings.HasPrefix(string(value), "["):
			var urls []string
			if json.Unmarshal(value, &urls) != nil {
				return errors.New("a url that is neither a string nor an array of strings")
			}
			content = strings.Join(urls, " ")
		case json.Unmarshal(value, &content) != nil:
			return fmt.Errorf("the member %s, which is not a string", quote(name))
		}
		if err := set(content); err != nil {
			return fmt.Errorf("the member %s, which %w", quote(name), err)
		}
		return nil
	})
	if err == nil && own == (ModelUpstream{}) {
		err = errors.New("an object that says nothing")
	}
	return own, err
}

// cutUpstream cuts an element of the short spelling.
func cutUpstream(element string) (name, value string, ok bool) {
	at := -1
	for _, scheme := range []string{"=http://", "=https://"} {
		if i := strings.Index(element, scheme); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return strings.Cut(element, "=")
	}
	return element[:at], element[at+1:], true
}
