package testenv

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// startLimit bounds finding and starting a server, a download included.
	startLimit = 6 * time.Minute
	// stopLimit bounds what is cleaned up at the end.
	stopLimit = 30 * time.Second
)

// process is what the tests of this process share.
var process shared

type shared struct {
	mu      sync.Mutex
	running bool // between begin and end
	tried   bool // a server was asked for
	server  *databaseServer
	err     error
}

func (s *shared) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
}

// databases returns the server, which it starts at the first call. A failure is
// final: each test fails with it, and only the first waits for it.
func (s *shared) databases() (*databaseServer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return nil, errors.New("testenv.Main is not running: call it in TestMain")
	}
	if !s.tried {
		s.tried = true
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		s.server, s.err = startServer(ctx)
	}
	return s.server, s.err
}

// end stops the server and returns it, or nil if there was none.
func (s *shared) end() (*databaseServer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	if s.server == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return s.server, s.server.close(ctx)
}
