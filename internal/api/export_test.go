package api

import "context"

// Patterns are those of all routes.
func (s *Server) Patterns() (patterns []string) {
	for _, r := range s.routes() {
		patterns = append(patterns, r.pattern)
	}
	return patterns
}

// Readiness is how many ask for what check says.
func Readiness(check func(context.Context) error) (ask func(context.Context) error) {
	return newReadiness(check).ask
}
