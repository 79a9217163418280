package testenv

import "context"

// Server is a Postgres for the tests of other processes, which find it in
// URLVariable.
type Server struct{ backend backend }

// StartServer returns the first server that the package's documentation lists.
// The caller must call Close. ctx bounds the start, not the server's life.
func StartServer(ctx context.Context) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	b, err := findBackend(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{b}, nil
}

// URL is what to connect to. It may hold a password.
func (s *Server) URL() string { return s.backend.url.String() }

// Source says in a few words which server this is, without a secret.
func (s *Server) Source() string { return s.backend.source }

// Close stops a server that StartServer started.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return s.backend.stop(ctx)
}
