package api

// Patterns are those of all routes.
func (s *Server) Patterns() (patterns []string) {
	for _, r := range s.routes() {
		patterns = append(patterns, r.pattern)
	}
	return patterns
}
