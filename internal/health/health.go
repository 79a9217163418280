package health

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// checkTimeout bounds all checks of one /readyz together.
const checkTimeout = 3 * time.Second

// Check is one condition of being ready. Its error is shown to everyone who
// asks, so it must hold nothing secret; it must return soon after its context
// ends.
type Check struct {
	Name string
	Do   func(context.Context) error
}

// health is the body of /livez and /readyz.
type health struct {
	Status  string   `json:"status"`
	Reasons []reason `json:"reasons,omitempty"`
}

type reason struct {
	Check string `json:"check,omitempty"`
	Error string `json:"error"`
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Alive(); err != nil {
		answer(w, http.StatusServiceUnavailable, health{Status: "stuck", Reasons: []reason{{Error: err.Error()}}})
		return
	}
	answer(w, http.StatusOK, health{Status: "alive"})
}

// readyz makes all checks, for one request at a time: however many ask, they
// take one connection to the database.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		answer(w, http.StatusServiceUnavailable, health{Status: "not ready", Reasons: []reason{{Error: "checks take too long"}}})
		return
	}
	var reasons []reason
	for _, check := range s.cfg.Ready {
		if err := check.Do(ctx); err != nil {
			reasons = append(reasons, reason{check.Name, err.Error()})
		}
	}
	if len(reasons) > 0 {
		answer(w, http.StatusServiceUnavailable, health{Status: "not ready", Reasons: reasons})
		return
	}
	answer(w, http.StatusOK, health{Status: "ready"})
}

func answer(w http.ResponseWriter, status int, body health) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}
