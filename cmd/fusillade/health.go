package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"fusillade/internal/cli"
)

// healthCmd is for health checks of containers that hold no other program.
type healthCmd struct {
	Live bool   `help:"Ask whether it makes progress, not whether it can take work: what is not alive is to be restarted."`
	Addr string `placeholder:"HOST:PORT" help:"Where it serves health. Default: FUSILLADE_ADMIN_ADDR, on this machine."`
}

// healthTimeout is above the time that all checks of one answer may take.
const healthTimeout = 5 * time.Second

// maxHealthBytes is far above what an answer has.
const maxHealthBytes = 64 << 10

func (c *healthCmd) Run(ctx context.Context, t *cli.Terminal) error {
	addr, err := c.addr()
	if err != nil {
		return cli.Usage(err)
	}
	path := "/readyz"
	if c.Live {
		path = "/livez"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return cli.Usage(err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("nothing answers at %s, where FUSILLADE_ADMIN_ADDR of the process should be: %w", addr, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthBytes))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", addr, err)
	}
	fmt.Fprintf(t.Out, "%s\n", cli.Plain(strings.TrimSpace(string(body))))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s answered with status %d", path, addr, resp.StatusCode)
	}
	return nil
}

// addr is where to ask: an address that listens on all of the machine's is asked
// on the loopback one.
func (c *healthCmd) addr() (string, error) {
	addr := c.Addr
	if addr == "" {
		cfg, err := loadSettings()
		if err != nil {
			return "", err
		}
		addr = string(cfg.Admin.Addr)
	}
	if addr == "" {
		return "", errors.New("FUSILLADE_ADMIN_ADDR is not set: the process serves no health; set it to an address such as :9090, or give --addr")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return "", fmt.Errorf("%q is no address that can be asked: want host:port, with a port other than 0", addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
