package main

import (
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

func TestDaemonsLs(t *testing.T) {
	store := newServer(t, nil).Store
	alive, dead := postgres.NewDaemonID(), postgres.NewDaemonID()
	for _, id := range []batch.DaemonID{alive, dead} {
		if err := store.RegisterDaemon(t.Context(), postgres.Daemon{ID: id, Role: "consumer", Hostname: "pod-1", PID: 42, Version: "v9"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Heartbeat(t.Context(), alive, postgres.Progress{Completed: 7, Failed: 2, InFlight: 3, Stopping: true}); err != nil {
		t.Fatal(err)
	}
	if err := store.EndDaemon(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	ls := func(args ...string) string {
		t.Helper()
		code, out, errOut := command(t, append([]string{"daemons", "ls"}, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, errOut)
		}
		return out
	}
	lines := strings.Split(strings.TrimSpace(ls("-o", "wide")), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want a head and the daemon that lives:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	fields := strings.Fields(lines[1])
	for i, want := range []string{alive.String(), "consumer", "pod-1", "42", "stopping", "", "3", "9", "2"} {
		if want != "" && fields[i] != want {
			t.Errorf("column %d is %q, want %q", i, fields[i], want)
		}
	}
	if got := ls("--all"); !strings.Contains(got, dead.String()) {
		t.Errorf("--all does not list the dead:\n%s", got)
	}
	one := ls("--json")
	for name, want := range map[string]any{"id": alive.String(), "processed": 9.0, "failed": 2.0, "in_flight": 3.0} {
		if got := jsonMember(t, one, name); got != want {
			t.Errorf("as JSON %s is %v, want %v", name, got, want)
		}
	}
}
