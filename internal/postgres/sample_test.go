package postgres

import (
	"testing"
	"time"
)

// What was done is added up by owner and minute, is read by an index however many
// owners there are, and is removed after a day.
func TestSamples(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := s.exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO samples SELECT 'owner ' || o, date_trunc('minute', now()) - m * interval '1 min', 60, 0, 600, 60 FROM generate_series(1, 100) o, generate_series(10, 1500) m`)
	exec(`ANALYZE samples`)
	done := Done{Completed: 50, Unsuccessful: 1, InTokens: 500, OutTokens: 5}
	for range 2 {
		// In the middle of the time, which is ten minutes ago.
		if err := s.RecordDone(t.Context(), 20*time.Minute, map[string]Done{"": done, "alice": done}); err != nil {
			t.Fatal(err)
		}
	}
	for owner, want := range map[string]int64{"": 100, "alice": 100, "owner 7": 51 * 60, "bob": 0} {
		list, err := s.LastHour(t.Context(), owner)
		if err != nil || len(list) != 60 {
			t.Fatalf("%d samples, %v", len(list), err)
		}
		var sum Done
		for i, m := range list {
			sum.Add(m.Done)
			if i > 0 && m.At.Sub(list[i-1].At) != time.Minute {
				t.Errorf("a minute follows after %v", m.At.Sub(list[i-1].At))
			}
		}
		if sum.Completed < want || sum.Completed > want+60 {
			t.Errorf("%q has completed %d, want %d", owner, sum.Completed, want)
		}
		if owner == "alice" && sum != (Done{100, 2, 1000, 10}) {
			t.Errorf("alice has done %+v", sum)
		}
	}
	plan := explain(t, s, ", ANALYZE, BUFFERS", lastHourSQL, "owner 7")
	if scans := plan.wholeScans(); len(scans) > 0 {
		t.Error(scans)
	}
	if err := s.RemoveSamples(t.Context()); err != nil {
		t.Fatal(err)
	}
	var old, kept int
	if err := s.queryRow(t.Context(), `SELECT count(*) FILTER (WHERE minute < now() - interval '24 hours'), count(*) FROM samples`, nil, &old, &kept); err != nil || old > 0 || kept < 100*1400 {
		t.Errorf("%d are too old, %d are kept, %v", old, kept, err)
	}
}
