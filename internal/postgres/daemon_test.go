package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestDaemonLife(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := Daemon{ID: NewDaemonID(), Role: "consumer", Hostname: "host", PID: 7, Version: "v1", Config: map[string]string{"CLAIM_BATCH_SIZE": "100"}}
	wantErr(t, s.Heartbeat(t.Context(), d.ID, Progress{}), batch.ErrDaemonDead)
	if err := s.RegisterDaemon(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := s.RegisterDaemon(t.Context(), d); err == nil || Transient(err) {
		t.Errorf("registered twice: %v", err)
	}
	status := func() (out string) {
		if err := s.queryRow(t.Context(), `SELECT status FROM daemons WHERE id = $1`, []any{[16]byte(d.ID)}, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := status(); got != "initializing" {
		t.Error(got)
	}
	silence(t, s, d.ID)
	if err := s.Heartbeat(t.Context(), d.ID, Progress{Completed: 1 << 40, Failed: 2, InFlight: 3}); err != nil {
		t.Fatal(err)
	}
	n := sqlInt(t, s, `SELECT count(*) FROM daemons WHERE status = 'running' AND last_heartbeat > now() - interval '1 min'
		AND requests_completed = 1::bigint << 40 AND requests_failed = 2 AND requests_in_flight = 3
		AND config = '{"CLAIM_BATCH_SIZE": "100"}' AND pid = 7`)
	if n != 1 {
		t.Error("the heartbeat was not recorded")
	}
	for range 2 {
		if err := s.EndDaemon(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		if got := status(); got != "dead" {
			t.Error(got)
		}
		// The dead do not come back.
		wantErr(t, s.Heartbeat(t.Context(), d.ID, Progress{}), batch.ErrDaemonDead)
	}
	if err := s.RegisterDaemon(t.Context(), Daemon{ID: NewDaemonID(), Role: "other"}); err == nil || Transient(err) {
		t.Errorf("unknown role: %v", err)
	}
}

func TestDeadDaemons(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alive, silent, ended, unknown := newDaemon(t, s), newDaemon(t, s), newDaemon(t, s), NewDaemonID()
	silence(t, s, silent)
	if err := s.EndDaemon(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	got, err := s.DeadDaemons(t.Context(), []batch.DaemonID{alive, silent, ended, unknown}, rules(alive).StaleThreshold)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[batch.DaemonID]bool{silent: true, ended: true, unknown: true}, got); diff != "" {
		t.Errorf("dead (-want +got):\n%s", diff)
	}
}
