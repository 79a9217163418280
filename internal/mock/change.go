package mock

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// change is one of Config.Changes.
type change struct {
	after time.Duration
	patch string
}

// parseChanges reads and tries each of them, on settings as they will be then.
func (s *Server) parseChanges(texts []string) ([]change, error) {
	changes := make([]change, 0, len(texts))
	tried := s.Settings()
	for _, text := range texts {
		after, patch, found := strings.Cut(text, "=")
		delay, err := time.ParseDuration(strings.TrimSpace(after))
		if !found || err != nil || delay < 0 {
			return nil, fmt.Errorf(`change %q: want a time and settings, such as 60s={"knee":"32"}`, text)
		}
		if tried, err = patched(tried, []byte(patch)); err != nil {
			return nil, fmt.Errorf("change %q: %w", text, err)
		}
		if len(changes) > 0 && delay < changes[len(changes)-1].after {
			return nil, fmt.Errorf("change %q: it comes before the one that is named before it", text)
		}
		changes = append(changes, change{delay, patch})
	}
	return changes, nil
}

// make changes the settings as their time comes, until ctx ends.
func (s *Server) make(ctx context.Context, changes []change) {
	began := time.Now()
	for _, c := range changes {
		timer := time.NewTimer(time.Until(began.Add(c.after)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			_ = s.patch([]byte(c.patch)) // was tried; what fails now is against a PATCH in between
		}
	}
}
