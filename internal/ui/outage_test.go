package ui_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/checker"
	"fusillade/internal/testenv/proxy"
	"fusillade/internal/testenv/testapi"
)

// logged is what a process logs.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(bytes.TrimSpace(line)))
	return len(line), nil
}

// of are the lines with a text.
func (l *logged) of(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// While Postgres is away each page says so, and the log says it once, not for each
// page that somebody looks at.
func TestOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var database *proxy.Proxy
	w := &world{System: testapi.New(t, func(s *testapi.System) {
		var url string
		database, url = proxy.Postgres(t, s.DatabaseURL)
		s.Set(&s.Settings.Postgres.URL, url)
		s.Set(&s.Settings.Server.Auth, "none")
	})}
	checker.AtEnd(t, w.DB)
	log := new(logged)
	w.Resources.Log = slog.New(slog.NewTextHandler(log, nil))
	w.url = w.serve()
	c := w.client()
	if a := c.get("/ui/batches"); a.status != http.StatusOK {
		t.Fatalf("before, a page is answered with %d", a.status)
	}
	database.Cut()
	for range 5 {
		if a := c.get("/ui/batches"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "cannot reach Postgres") {
			t.Errorf("a page is answered with %d: %s", a.status, a.body)
		}
	}
	database.Restore()
	first := 0
	for _, line := range log.of("page failed") {
		if !strings.Contains(line, "count=") {
			first++
		}
	}
	if first != 1 {
		t.Errorf("logged %d times, want once and counts:\n%s", first, strings.Join(log.of("page failed"), "\n"))
	}
}
