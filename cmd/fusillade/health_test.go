package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fusillade/internal/cli"
)

func TestHealth(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(`{"status":"of ` + r.URL.Path + `"}` + "\n"))
	}))
	t.Cleanup(server.Close)
	addr := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := strings.Cut(addr, ":")
	for _, tt := range []struct {
		addr  string // of the environment
		args  []string
		ready bool
		code  int
		want  string
	}{
		{addr: addr, ready: true, want: "of /readyz"},
		{addr: ":" + port, ready: true, want: "of /readyz"},
		{addr: "0.0.0.0:" + port, ready: true, want: "of /readyz"},
		{args: []string{"--addr", addr}, ready: true, want: "of /readyz"},
		{addr: addr, code: cli.ExitFailed, want: "status 503"},
		{addr: addr, args: []string{"--live"}, want: "of /livez"},
		{code: cli.ExitUsage, want: "FUSILLADE_ADMIN_ADDR"},
		{addr: "127.0.0.1:0", code: cli.ExitUsage, want: "127.0.0.1:0"},
		{addr: "127.0.0.1:1", code: cli.ExitFailed, want: "nothing answers at 127.0.0.1:1"},
	} {
		ready = tt.ready
		t.Setenv("FUSILLADE_ADMIN_ADDR", tt.addr)
		code, out, message := command(t, append([]string{"health"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+message, tt.want) {
			t.Errorf("%q %q: exit code %d, want %d and %q:\n%s%s", tt.addr, tt.args, code, tt.code, tt.want, out, message)
		}
	}
}
