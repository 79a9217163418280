package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestReclaim(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alive, mute, ended := newDaemon(t, s), newDaemon(t, s), newDaemon(t, s)
	id := newBatch(t, s, 12)
	kept, orphans := started(t, s, alive, id, 2), append(started(t, s, mute, id, 5), started(t, s, ended, id, 3)...)
	claimed(t, s, id, 1)
	back := orphans[0] // was returned by its daemon before that died
	if _, err := s.Finish(t.Context(), mute, nil, []Release{{Delivery: back, Retry: true, Delay: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	orphans = orphans[1:]
	dead := func() []batch.DaemonID {
		t.Helper()
		ids, _, err := s.DeclareDead(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := dead(); len(got) > 0 {
		t.Errorf("dead are %v, and all are alive", got)
	}
	if _, next, err := s.DeclareDead(t.Context(), time.Hour); err != nil || next <= 0 || next > time.Hour {
		t.Errorf("the next is dead in %v, %v, want within an hour", next, err)
	}
	silence(t, s, mute)
	if err := s.EndDaemon(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	gone := dead()
	slices.SortFunc(gone, func(a, b batch.DaemonID) int { return slices.Compare(a[:], b[:]) })
	if diff := cmp.Diff([]batch.DaemonID{mute, ended}, gone); diff != "" {
		t.Errorf("dead (-want +got):\n%s", diff)
	}
	// Who was declared dead stays dead, and what it knows is not written.
	wantErr(t, s.Heartbeat(t.Context(), mute, Progress{}), batch.ErrDaemonDead)

	var pages []int
	var lines, want []int32
	for {
		page, err := s.Reclaim(t.Context(), gone, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		pages = append(pages, len(page))
		for _, r := range page {
			lines = append(lines, r.ID.Line)
			if r.Claim != 1 || r.Model != testModel || r.ID.Batch != id {
				t.Errorf("reclaimed %+v", r)
			}
		}
	}
	for _, d := range orphans {
		want = append(want, d.ID.Line)
	}
	slices.Sort(lines)
	if diff := cmp.Diff(want, lines); diff != "" || !slices.Equal(pages, []int{3, 3, 1}) {
		t.Errorf("reclaimed in pages of %v (-want +got):\n%s", pages, diff)
	}
	for _, st := range start(t, s, rules(alive), redelivered(orphans)...) {
		if st.Verdict != Stale {
			t.Errorf("an old message: verdict %d, want stale", st.Verdict)
		}
	}
	if n := finish(t, s, mute, endings(completed, orphans)...); n != 0 {
		t.Errorf("%d results written by a dead daemon", n)
	}
	again, err := s.claimAnyDue(t.Context(), testModel, 100, nil)
	if err != nil || len(again) != len(orphans) {
		t.Fatalf("%d claimed again, want %d; %v", len(again), len(orphans), err)
	}
	for i, st := range start(t, s, rules(alive), delivered(again, 1)...) {
		if st.Verdict != Started || st.Takeovers != 1 || st.Attempt != 0 {
			t.Errorf("%v: %+v, want it started at its first attempt, taken over once", again[i].ID, st)
		}
	}
	if n := finish(t, s, alive, endings(completed, kept)...); n != len(kept) {
		t.Errorf("%d of %d results of the living daemon written", n, len(kept))
	}
	check(t, s)
}

func TestRemoveDead(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	alive, recent := newDaemon(t, s), newDaemon(t, s)
	for range 5 {
		d := newDaemon(t, s)
		sqlExec(t, s, `UPDATE daemons SET status = 'dead', stopped_at = now() - interval '2 h' WHERE id = $1`, [16]byte(d))
	}
	if err := s.EndDaemon(t.Context(), recent); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{3, 2, 0} {
		if n, err := s.RemoveDead(t.Context(), time.Hour, 3); err != nil || n != want {
			t.Errorf("%d removed, %v, want %d", n, err, want)
		}
	}
	records, err := s.Daemons(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 || records[0].ID != alive || records[1].ID != recent || records[1].Status != "dead" {
		t.Errorf("left are %+v, want the one that lives, then the one that died a moment ago", records)
	}
}

func TestDaemons(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	silence(t, s, d)
	got, err := s.Daemons(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if age := got[0].HeartbeatAge; age < time.Minute || age > time.Hour {
		t.Errorf("heartbeat is %v old", age)
	}
	if err := s.Heartbeat(t.Context(), d, Progress{Completed: 5, Failed: 2, InFlight: 3, Stopping: true}); err != nil {
		t.Fatal(err)
	}
	if got, err = s.Daemons(t.Context()); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if got[0].HeartbeatAge > 50*time.Second || got[0].StartedAt.IsZero() {
		t.Errorf("record is %+v", got[0])
	}
	want := DaemonStatus{
		ID: d, Role: "consumer", Host: "host", PID: 1, Version: "test", Status: "stopping",
		StartedAt: got[0].StartedAt, HeartbeatAge: got[0].HeartbeatAge, InFlight: 3, Completed: 5, Failed: 2,
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestOldestConsumer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	oldest := func() time.Duration {
		t.Helper()
		age, err := s.OldestConsumer(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return age.Truncate(time.Hour)
	}
	if got := oldest(); got != 0 {
		t.Errorf("without any = %v, want 0", got)
	}
	begun := func(role string, hours int) batch.DaemonID {
		d := newDaemon(t, s)
		sqlExec(t, s, `UPDATE daemons SET role = $2, started_at = now() - $3 * interval '1 hour' WHERE id = $1`, [16]byte(d), role, hours)
		return d
	}
	begun("dispatcher", 9)
	silence(t, s, begun("consumer", 8))
	if err := s.EndDaemon(t.Context(), begun("consumer", 7)); err != nil {
		t.Fatal(err)
	}
	begun("consumer", 3)
	if got := oldest(); got != 3*time.Hour {
		t.Errorf("with a consumer of 3 hours = %v", got)
	}
	begun("standalone", 4)
	begun("consumer", 2)
	if got := oldest(); got != 4*time.Hour {
		t.Errorf("with one of 4 hours = %v", got)
	}
}

func TestWorking(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	in := claimed(t, s, newBatch(t, s, 2), 2)
	want := func(what string, model batch.Model, want bool) {
		t.Helper()
		if got, err := s.Working(t.Context(), model, time.Minute); err != nil || got != want {
			t.Errorf("%s: %t, %v, want %t", what, got, err, want)
		}
	}
	want("claimed", testModel, false)
	start(t, s, rules(d), in[0])
	want("processing", testModel, true)
	want("of another model", otherName, false)
	silence(t, s, d)
	want("its daemon is dead", testModel, false)
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: in[0], Retry: true, Delay: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	want("in backoff", testModel, true)
}
