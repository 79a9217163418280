package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fusillade/internal/api"
)

// Whether the server is alive and ready is told to everybody, and no more than that.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	anonymous := &client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1")}}
	want := func(path string, status int, text string) {
		t.Helper()
		a := anonymous.get(path).want(t, status)
		if got := strings.TrimSpace(string(a.body)); got != `{"status":"`+text+`"}` {
			t.Errorf("%s says %s", path, got)
		}
	}
	ready := func(status int) {
		t.Helper()
		until(t, "the status is "+http.StatusText(status), func() bool { return anonymous.get("/readyz").status == status })
	}
	want("/livez", http.StatusOK, "alive")
	want("/healthz", http.StatusOK, "alive")
	want("/readyz", http.StatusOK, "ready")
	anonymous.do(http.MethodPost, "/readyz", "", nil).wantError(t, http.StatusMethodNotAllowed, "method_not_allowed")
	for _, down := range []interface{ Cut() }{s.database, s.broker} {
		down.Cut()
		ready(http.StatusServiceUnavailable)
		want("/readyz", http.StatusServiceUnavailable, "not ready")
		want("/livez", http.StatusOK, "alive")
		down.(interface{ Restore() }).Restore()
		ready(http.StatusOK)
	}
}

// The cause is told to nobody.
func TestReadinessTellsNoCause(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) {
		cfg.Ready = func(context.Context) error { return errors.New("secret: dial tcp 10.0.0.7:5432") }
	})
	a := (&client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1")}}).get("/readyz").want(t, http.StatusServiceUnavailable)
	if strings.Contains(string(a.body), "secret") {
		t.Errorf("answered with %s", a.body)
	}
}

// However many ask, and whether they wait for the answer, the database is asked once
// at a time, and once a second.
func TestReadinessIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		checks := 0
		ask := api.Readiness(func(ctx context.Context) error {
			checks++ // the race detector sees two at once
			select {
			case <-time.After(100 * time.Millisecond):
				return down
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		gone, leave := context.WithCancel(t.Context())
		for i := range 8 {
			go func() {
				ctx := t.Context()
				if i == 0 {
					ctx = gone
				}
				if err := ask(ctx); !errors.Is(err, down) {
					t.Errorf("told %v", err)
				}
			}()
			synctest.Wait()
		}
		leave()                            // it is the first, which asks for all
		time.Sleep(999 * time.Millisecond) //nolint:forbidigo // the bubble's time, which passes at once
		if err := ask(t.Context()); !errors.Is(err, down) || checks != 1 {
			t.Errorf("within a second: %v after %d checks", err, checks)
		}
		time.Sleep(200 * time.Millisecond) //nolint:forbidigo // the same
		if err := ask(t.Context()); !errors.Is(err, down) || checks != 2 {
			t.Errorf("after a second: %v after %d checks", err, checks)
		}
	})
}
