package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fusillade/internal/endpoint"
)

// HTTPURL is a model endpoint. Its user, password and query are masked.
type HTTPURL struct{ masked }

// Set takes an http or https URL; slashes at its end are dropped.
func (h *HTTPURL) Set(text string) error {
	if text == "" {
		h.masked = masked{}
		return nil
	}
	text, u, err := endpoint.ParseURL(text)
	if err != nil {
		return err
	}
	shown := *u
	if u.RawQuery != "" {
		shown.RawQuery = "redacted" // it may hold a key
	}
	h.masked = mask(text, strings.TrimRight(withoutUser(&shown), "/"))
	return nil
}

// HTTPURLs are the URLs of one model endpoint, each as HTTPURL.
type HTTPURLs struct{ masked }

// Set takes URLs that blanks part, or commas before the next http:// or https://.
func (h *HTTPURLs) Set(text string) error {
	var urls, shown []string
	text = nextURL.ReplaceAllString(text, " $1")
	for i, one := range strings.Fields(text) {
		var u HTTPURL
		if err := u.Set(one); err != nil {
			if i > 0 || strings.ContainsAny(text, " \t\n") {
				err = fmt.Errorf("has URL number %d, which %w", i+1, err)
			}
			return err
		}
		if slices.Contains(urls, u.Reveal()) {
			return fmt.Errorf("has URL number %d twice", i+1)
		}
		urls, shown = append(urls, u.Reveal()), append(shown, u.String())
	}
	if len(urls) > endpoint.MaxURLs {
		return fmt.Errorf("has more than %d URLs", endpoint.MaxURLs)
	}
	h.masked = mask(strings.Join(urls, " "), strings.Join(shown, " "))
	return nil
}

var nextURL = regexp.MustCompile(`,\s*(https?://)`)

// All returns the URLs.
func (h HTTPURLs) All() []string { return strings.Fields(h.masked.Reveal()) }

// Reveal returns the first URL; empty: there is none.
func (h HTTPURLs) Reveal() string {
	first, _, _ := strings.Cut(h.masked.Reveal(), " ")
	return first
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
