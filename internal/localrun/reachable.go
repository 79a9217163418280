package localrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"fusillade/internal/config"
)

const dialTimeout = 10 * time.Second

// reachable finds out before any work is done whether the upstreams take
// connections at all: of each endpoint at least one URL. What is behind a proxy
// is not looked at.
func reachable(ctx context.Context, u *config.Upstream) error {
	endpoints := [][]string{u.URL.All()}
	for _, own := range u.Models {
		endpoints = append(endpoints, own.URL.All())
	}
	proxy := u.Proxy.For()
	for _, urls := range endpoints {
		var first error
		for _, target := range urls {
			err := dial(ctx, target, proxy)
			if err == nil {
				first = nil
				break
			}
			first = cmp.Or(first, err)
		}
		if first != nil {
			return first
		}
	}
	return nil
}

func dial(ctx context.Context, target string, proxy func(*url.URL) (*url.URL, error)) error {
	parsed, err := url.Parse(target)
	if err != nil {
		return errors.New("--upstream is not a URL")
	}
	if proxy != nil {
		if via, err := proxy(parsed); via != nil || err != nil {
			return err
		}
	}
	port := parsed.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[parsed.Scheme]
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(parsed.Hostname(), port))
	if err != nil {
		return fmt.Errorf("the upstream %s://%s cannot be reached: %w", parsed.Scheme, parsed.Host, err)
	}
	return conn.Close()
}
