package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

// HTTPURL is a model endpoint. Its user, password and query are masked.
type HTTPURL struct{ masked }

// Set takes an http or https URL; slashes at its end are dropped.
func (h *HTTPURL) Set(text string) error {
	if text == "" {
		h.masked = masked{}
		return nil
	}
	u, err := parseURL(text, "http", "https")
	if err != nil {
		return err
	}
	if strings.Contains(text, "#") {
		return errors.New("has a fragment, which is sent to no server")
	}
	shown := *u
	if u.RawQuery != "" {
		shown.RawQuery = "redacted" // it may hold a key
	}
	h.masked = mask(strings.TrimRight(text, "/"), strings.TrimRight(withoutUser(&shown), "/"))
	return nil
}

// NATSServers is one or more NATS servers. Users, passwords and tokens in
// their URLs are masked.
type NATSServers struct{ masked }

func (NATSServers) secret() {}

// Set takes servers separated by commas; one without a scheme is nats://.
func (n *NATSServers) Set(text string) error {
	if text == "" {
		n.masked = masked{}
		return nil
	}
	var servers, shown []string
	for i, server := range strings.Split(text, ",") {
		server = strings.TrimSpace(server)
		if server != "" && !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := parseURL(server, "nats", "tls", "ws", "wss")
		if err != nil {
			return fmt.Errorf("has a bad server, number %d, which %w", i+1, err)
		}
		servers, shown = append(servers, server), append(shown, withoutUser(u))
	}
	n.masked = mask(strings.Join(servers, ","), strings.Join(shown, ","))
	return nil
}

// ModelUpstreams is the endpoint by model.
type ModelUpstreams map[batch.Model]HTTPURL

// String spells the endpoints as Set reads them, users and passwords masked.
func (m ModelUpstreams) String() string {
	for model, endpoint := range m {
		if !isShort(model) || strings.Contains(endpoint.String(), ",") || strings.Contains(string(model), "=http") {
			return long(m)
		}
	}
	return short(m, HTTPURL.String)
}

// Set reads gpt-4=https://api.example.com,… or
// {"gpt-4":"https://api.example.com"}. In the short spelling an element is cut
// at the first =http:// or =https:// in it, or else at its first equals sign.
// Errors name the model, never the URL.
func (m *ModelUpstreams) Set(text string) error {
	upstreams := ModelUpstreams{}
	set := func(name, value string) error {
		var endpoint HTTPURL
		if value == "" {
			return fmt.Errorf("has the model %s without a URL", quote(name))
		}
		if err := endpoint.Set(value); err != nil {
			return fmt.Errorf("has the model %s with a URL that %w", quote(name), err)
		}
		return insert(upstreams, name, endpoint)
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(name string, value json.RawMessage) error {
			var endpoint string
			if err := json.Unmarshal(value, &endpoint); err != nil {
				return fmt.Errorf("has the model %s with a value that is not a string", quote(name))
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

// parseURL checks scheme, host and port. Its errors repeat no part of the
// text, which may hold a password.
func parseURL(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("does not begin with %s", strings.Join(schemes, ":// or ")+"://")
	}
	if u.Hostname() == "" {
		return nil, errors.New("has no host")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has a port that is not from 1 to 65535")
		}
	}
	return u, nil
}

func withoutUser(u *url.URL) string {
	shown := *u
	if shown.User != nil {
		shown.User = url.User("redacted")
	}
	return shown.String()
}
