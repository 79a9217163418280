package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/config"
)

// startRetryAfter is what clients are told to wait for an API that starts.
const startRetryAfter = 2 * time.Second

// door is the API's address while the process starts: all who come are told to
// come again.
type door struct {
	listener net.Listener
	server   *http.Server
	served   sync.WaitGroup
	once     sync.Once
}

func openDoor(ctx context.Context, s config.Server, log *slog.Logger) (*door, error) {
	listener, err := Listen(ctx, s)
	if err != nil {
		return nil, err
	}
	d := &door{listener: listener, server: &http.Server{
		Handler: api.Unavailable(startRetryAfter), ReadHeaderTimeout: connectTimeout, WriteTimeout: connectTimeout,
	}}
	d.served.Go(func() {
		if err := d.server.Serve(shared{listener}); !errors.Is(err, http.ErrServerClosed) {
			log.Error("answering while the API starts", "err", err)
		}
	})
	return d, nil
}

// pass hands the address over to the API, which closes it.
func (d *door) pass() net.Listener {
	d.leave()
	return d.listener
}

// close closes the address, unless it was handed over and closed there.
func (d *door) close() {
	d.leave()
	_ = d.listener.Close()
}

func (d *door) leave() {
	d.once.Do(func() {
		_ = d.server.Close()
		d.served.Wait()
		if tcp, ok := d.listener.(*net.TCPListener); ok {
			_ = tcp.SetDeadline(time.Time{})
		}
	})
}

// shared is a listener that is left, and not closed, by who closes it.
type shared struct{ net.Listener }

// Close ends Accept.
func (s shared) Close() error {
	if tcp, ok := s.Listener.(*net.TCPListener); ok {
		return tcp.SetDeadline(time.Unix(1, 0))
	}
	return s.Listener.Close()
}
