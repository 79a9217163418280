package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"fusillade/internal/mock"
)

const (
	mockStopTimeout       = 5 * time.Second
	mockReadHeaderTimeout = 10 * time.Second
	mockReadTimeout       = time.Minute
	mockIdleTimeout       = 2 * time.Minute
)

type mockCmd struct {
	Listen       string `help:"Address to listen on; port 0 takes a free one (default ${default})." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	Latency      string `help:"Time from request to answer: 50ms, uniform:10ms-80ms, normal:50ms±10ms (mean and standard deviation), or hang for no answer at all." placeholder:"TIME"`
	Errors       string `help:"Errors to inject, as shares of the calls by status: 429=0.05,500=0.05,400=0.01. Final ones such as 400 hit the same custom ids every time." placeholder:"STATUS=RATE,..."`
	RetryAfter   int    `help:"Seconds to send as Retry-After with 429 and 503. 0 sends none (default ${default})." default:"0" placeholder:"SECONDS"`
	Ceiling      string `help:"Most calls in flight by model, * for models not listed: gpt-4=5,*=10. A call beyond gets 429 and counts as a violation in /stats." placeholder:"MODEL=N,..."`
	Seed         uint64 `help:"Seed of answers, errors and latencies. Equal seeds repeat a run (default ${default})." default:"0" placeholder:"N"`
	OutputTokens int    `help:"Length of each answer, in words (default ${default})." default:"16" placeholder:"N"`
	NoCustomIDs  bool   `name:"no-custom-ids" help:"Do not count calls per custom id. Saves memory in runs of millions of requests; errors then follow X-Fusillade-Attempt."`
}

// Run serves the mock model endpoint until ctx is done. Calls in flight then
// have five seconds to end.
func (c *mockCmd) Run(ctx context.Context, t *terminal) error {
	server, err := c.start(ctx)
	if err != nil {
		return usage(err)
	}
	if _, err := fmt.Fprintf(t.out, "listening on %s\n", server.url); err != nil {
		return errors.Join(err, server.stop())
	}
	select {
	case err := <-server.served:
		return fmt.Errorf("serving on %s: %w", server.url, err)
	case <-ctx.Done():
		return server.stop()
	}
}

// mockServer is a mock endpoint that is being served.
type mockServer struct {
	handler    *mock.Server
	url        string
	http       *http.Server
	served     chan error
	abortCalls context.CancelFunc
}

func (c *mockCmd) start(ctx context.Context) (*mockServer, error) {
	handler, err := mock.New(mock.Config{
		Settings: mock.Settings{
			Latency:           c.Latency,
			Errors:            c.Errors,
			RetryAfterSeconds: c.RetryAfter,
			Ceilings:          c.Ceiling,
		},
		Seed:          c.Seed,
		DropCustomIDs: c.NoCustomIDs,
		OutputTokens:  c.OutputTokens,
	})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--listen %s: the address is in use; choose another port, or 0 for a free one", c.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", c.Listen, err)
	}
	calls, abortCalls := context.WithCancel(context.WithoutCancel(ctx))
	s := &mockServer{
		handler: handler, url: "http://" + listener.Addr().String(), served: make(chan error, 1), abortCalls: abortCalls,
		http: &http.Server{
			Handler:           handler,
			BaseContext:       func(net.Listener) context.Context { return calls },
			ReadHeaderTimeout: mockReadHeaderTimeout,
			ReadTimeout:       mockReadTimeout,
			WriteTimeout:      mock.MaxLatency + time.Minute,
			IdleTimeout:       mockIdleTimeout,
		},
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

func (s *mockServer) stop() error {
	defer s.abortCalls()
	stopping, cancel := context.WithTimeout(context.Background(), mockStopTimeout)
	defer cancel()
	err := s.http.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		s.abortCalls()
		err = s.http.Close()
	}
	return errors.Join(err, ignoreServerClosed(<-s.served))
}

func ignoreServerClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
