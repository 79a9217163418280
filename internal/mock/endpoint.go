package mock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	stopTimeout       = 5 * time.Second
	readHeaderTimeout = 10 * time.Second
	readTimeout       = time.Minute
	idleTimeout       = 2 * time.Minute
)

// Endpoint is a mock endpoint that is being served.
type Endpoint struct {
	// URL is its base URL.
	URL string

	http       *http.Server
	served     chan error
	abortCalls context.CancelFunc
	changing   sync.WaitGroup // the changes of settings
}

// Listen serves a mock endpoint at an address until Stop, with cfg.TLS over https.
func Listen(ctx context.Context, addr string, cfg Config) (*Endpoint, error) {
	handler, err := New(cfg)
	if err != nil {
		return nil, err
	}
	changes, err := handler.parseChanges(cfg.Changes)
	if err != nil {
		return nil, fmt.Errorf("configuring mock: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--listen %s: the address is in use; choose another port, or 0 for a free one", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", addr, err)
	}
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	calls, abortCalls := context.WithCancel(context.WithoutCancel(ctx))
	e := &Endpoint{
		URL: scheme + "://" + listener.Addr().String(), served: make(chan error, 1), abortCalls: abortCalls,
		http: &http.Server{
			Handler:           handler,
			BaseContext:       func(net.Listener) context.Context { return calls },
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      MaxLatency + time.Minute,
			IdleTimeout:       idleTimeout,
			TLSConfig:         cfg.TLS,
		},
	}
	e.changing.Go(func() { handler.make(calls, changes) })
	go func() { e.served <- e.serve(listener) }() // until Stop
	return e, nil
}

// serve speaks HTTP/2 too, where it speaks TLS.
func (e *Endpoint) serve(listener net.Listener) error {
	if e.http.TLSConfig != nil {
		return e.http.ServeTLS(listener, "", "")
	}
	return e.http.Serve(listener)
}

// Served gives the error that ended the serving before Stop.
func (e *Endpoint) Served() <-chan error { return e.served }

// Stop ends the serving. Calls in flight have five seconds to end.
func (e *Endpoint) Stop() error {
	defer e.changing.Wait()
	defer e.abortCalls()
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := e.http.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		e.abortCalls()
		err = e.http.Close()
	}
	served := <-e.served
	if errors.Is(served, http.ErrServerClosed) {
		served = nil
	}
	return errors.Join(err, served)
}
