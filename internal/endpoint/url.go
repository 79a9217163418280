package endpoint

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxURLBytes bounds each URL that is stored.
const MaxURLBytes = 2048

// ParseURL takes an http or https URL of an endpoint; slashes at its end are dropped.
// Its errors hold nothing of it.
func ParseURL(text string) (string, *url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case !strings.Contains(text, "://"): // as in 127.0.0.1:8000, which is no URL
		return "", nil, errors.New("does not begin with http:// or https://")
	case err != nil:
		return "", nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", nil, errors.New("does not begin with http:// or https://")
	case u.Hostname() == "":
		return "", nil, errors.New("has no host")
	case strings.Contains(text, "#"):
		return "", nil, errors.New("has a fragment, which is sent to no server")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", nil, errors.New("has a port that is not from 1 to 65535")
		}
	}
	return strings.TrimRight(text, "/"), u, nil
}

// ParseURLs takes the URLs of one endpoint, which hold no user and no password:
// those are a key, and are stored as one.
func ParseURLs(texts []string) ([]string, error) {
	if len(texts) > MaxURLs {
		return nil, fmt.Errorf("has more than %d URLs", MaxURLs)
	}
	urls := make([]string, 0, len(texts))
	for i, text := range texts {
		one, u, err := ParseURL(text)
		switch {
		case err != nil:
		case len(text) > MaxURLBytes:
			err = fmt.Errorf("has more than %d bytes", MaxURLBytes)
		case u.User != nil:
			err = errors.New("holds a user or a password, which are given as the API key, with basic authentication")
		case slices.Contains(urls, one):
			err = errors.New("is there twice")
		}
		if err != nil && len(texts) > 1 {
			err = fmt.Errorf("has URL number %d, which %w", i+1, err)
		}
		if err != nil {
			return nil, err
		}
		urls = append(urls, one)
	}
	return urls, nil
}
