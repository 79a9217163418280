package ui_test

import (
	"fmt"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/config"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testapi"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is the API with the dashboard, and daemons that call a mock endpoint.
type world struct {
	*testapi.System
	url string // of the server, without a path
}

// newWorld serves the API with keys, unless change says otherwise.
func newWorld(t testing.TB, change func(*config.Standalone)) *world {
	t.Helper()
	w := connect(t, change)
	checker.AtEnd(t, w.DB)
	w.url = w.serve()
	return w
}

// connect returns a world that serves nothing yet.
func connect(t testing.TB, change func(*config.Standalone)) *world {
	t.Helper()
	return &world{System: testapi.New(t, func(s *testapi.System) {
		s.Set(&s.Settings.Server.Auth, "keys")
		if change != nil {
			change(&s.Settings)
		}
	})}
}

// serve runs one more process's API, and returns its URL.
func (w *world) serve() string {
	w.T.Helper()
	return w.Serve(w.NewAPI())
}

// lines is a file of n requests.
func lines(n int, model, prompt string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":%q}]}}`+"\n", i+1, model, prompt)
	}
	return b.String()
}

// until waits for a condition, which it asks again and again.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, testenv.Patience, what, holds)
}

// finished waits for the end of a batch.
func (w *world) finished(id string) {
	w.T.Helper()
	parsed, err := batch.ParseID(id)
	if err != nil {
		w.T.Fatal(err)
	}
	until(w.T, "batch "+id+" has finished", func() bool {
		b, err := w.Store.GetBatch(w.T.Context(), parsed, nil)
		return err == nil && b.Status.Terminal()
	})
}
