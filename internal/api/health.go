package api

import (
	"context"
	"net/http"
	"time"
)

const (
	// readyTimeout bounds the wait for whether the server is ready.
	readyTimeout = 3 * time.Second
	// readyAge is how old an answer may be: everybody may ask, however often, and
	// the database is asked once a second.
	readyAge = time.Second
)

// readiness is whether the server can do its work, for all who ask.
type readiness struct {
	check func(context.Context) error
	turn  chan struct{} // held by the one that checks, and guards what follows
	known *healthAnswer
}

type healthAnswer struct {
	at  time.Time
	err error
}

func newReadiness(check func(context.Context) error) readiness {
	return readiness{check: check, turn: make(chan struct{}, 1), known: new(healthAnswer)}
}

func (r readiness) ask(ctx context.Context) error {
	if r.check == nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-waiting.Done():
		return waiting.Err()
	}
	if time.Since(r.known.at) < readyAge {
		return r.known.err
	}
	// The one that asked may leave: the answer is for others too.
	checking, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	r.known.err = r.check(checking)
	r.known.at = time.Now()
	return r.known.err
}

// healthObject says no more than its status, since no key is asked for it. What is
// wrong is at FUSILLADE_ADMIN_ADDR.
type healthObject struct {
	Status string `json:"status"`
}

func (s *Server) health(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	s.writeJSON(w, status, healthObject{text})
}

// alive answers while the process can answer at all.
func (s *Server) alive(w http.ResponseWriter, _ *http.Request) {
	s.health(w, http.StatusOK, "alive")
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.streams.Err() != nil || s.readiness.ask(r.Context()) != nil {
		s.health(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	s.health(w, http.StatusOK, "ready")
}
