package testenv

import "context"

// Server is a Postgres for the tests of other processes, with a migrated database
// that they copy.
type Server struct{ server *databaseServer }

// StartServer returns the first server that the package's documentation lists.
// The caller must call Close. ctx bounds the start, not the server's life.
func StartServer(ctx context.Context) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// Environment is what tells other processes of it. It may hold a password.
func (s *Server) Environment() []string {
	return []string{URLVariable + "=" + s.server.url.String(), TemplateVariable + "=" + s.server.template}
}

// Source says in a few words which server this is, without a secret.
func (s *Server) Source() string { return s.server.source }

// Close stops a server that StartServer started.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return s.server.close(ctx)
}
