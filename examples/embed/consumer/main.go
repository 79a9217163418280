// Consumer calls endpoints for a cluster, with a rule of its own about what is tried
// again, and a transport of its own: here one that signs each call.
//
//	go run ./examples/embed/consumer DATABASE NATS UPSTREAM
package main

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"

	"fusillade"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: consumer DATABASE NATS UPSTREAM")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database, broker, upstream string) error {
	conn, err := nats.Connect(broker, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.NATS, cfg.Upstream = database, conn, upstream
	cfg.Role, cfg.Logger = fusillade.RoleConsumer, slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg.ShouldRetry = func(r fusillade.Response) bool {
		return r.StatusCode >= 500 || bytes.Contains(r.Body, []byte("please try again"))
	}
	cfg.Transport = signing{&http.Transport{MaxIdleConnsPerHost: cfg.MaxInFlight, ForceAttemptHTTP2: true}}
	f, err := fusillade.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Run(ctx)
}

// signing adds a header to each call.
type signing struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s signing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Signature", "of the program")
	return s.RoundTripper.RoundTrip(r)
}
