package config

import (
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// ProxyURL is the proxy of calls to model endpoints. Only its user and password
// are masked.
type ProxyURL struct {
	masked
	none bool
}

const noProxy = "none"

// Set takes an http, https or socks5 URL, or none. Empty: HTTPS_PROXY,
// HTTP_PROXY and NO_PROXY decide.
func (p *ProxyURL) Set(text string) error {
	switch text {
	case "":
		*p = ProxyURL{}
		return nil
	case noProxy:
		*p = ProxyURL{masked: mask(noProxy, noProxy), none: true}
		return nil
	}
	u, err := parseURL(text, "http", "https", "socks5")
	if err != nil {
		return err
	}
	*p = ProxyURL{masked: mask(text, withoutUser(u))}
	return nil
}

// For returns the proxy of a call to a URL; nil: a direct connection.
// HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in either case, are read now.
func (p ProxyURL) For() func(*url.URL) (*url.URL, error) {
	switch {
	case p.none:
		return nil
	case p.IsSet():
		fixed, err := url.Parse(p.Reveal())
		return func(*url.URL) (*url.URL, error) { return fixed, err }
	}
	return httpproxy.FromEnvironment().ProxyFunc()
}
