package main

import (
	"testing"

	"fusillade/internal/app"
	"fusillade/internal/mock"
	"fusillade/internal/testenv/testapi"
)

// newServer serves the API on a database and a broker of its own, which the
// environment then names as a user's would. With answers, requests are called
// too, at a mock endpoint.
func newServer(t *testing.T, answers *mock.Settings) app.Resources {
	t.Helper()
	s := testapi.New(t, nil)
	t.Setenv("FUSILLADE_DATABASE_URL", s.DatabaseURL)
	t.Setenv("FUSILLADE_NATS_URL", s.BrokerURL)
	t.Setenv("FUSILLADE_SERVER", s.Serve(s.NewAPI()))
	if answers != nil {
		s.Work(*answers)
	}
	return s.Resources
}
