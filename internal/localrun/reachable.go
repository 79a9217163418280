package localrun

import (
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
// connections at all.
func reachable(ctx context.Context, u *config.Upstream) error {
	targets := []string{}
	if u.URL.IsSet() {
		targets = append(targets, u.URL.Reveal())
	}
	for _, own := range u.Models {
		targets = append(targets, own.Reveal())
	}
	for _, target := range targets {
		parsed, err := url.Parse(target)
		if err != nil {
			return errors.New("--upstream is not a URL")
		}
		port := parsed.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[parsed.Scheme]
		}
		address := net.JoinHostPort(parsed.Hostname(), port)
		dialer := net.Dialer{Timeout: dialTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("the upstream %s://%s cannot be reached: %w", parsed.Scheme, parsed.Host, err)
		}
		_ = conn.Close()
	}
	return nil
}
