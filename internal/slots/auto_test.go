package slots

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/streams"
)

// Three daemons find what the endpoint takes, and go on when the one that decides is
// gone.
func TestAutomaticLimit(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const most = 8
	e.refuses.Store(most)
	if err := EnsureModel(t.Context(), e.slots, model, Settings{Limit: batch.AutoLimit(2, 1000)}); err != nil {
		t.Fatal(err)
	}
	workers := e.workers(t, 3, 1000)
	for _, w := range workers {
		w.work(0, true)
	}
	until(t, "it is found", func() bool { limit := e.entry(t).Limit; return limit >= most-1 && limit <= most+1 })
	before := e.entry(t)
	if before.Auto == nil || before.Auto.Decider == "" || before.Auto.Cause == "" || before.Auto.Changed.IsZero() {
		t.Fatalf("the decision does not say whose and why: %+v", before.Auto)
	}
	for _, w := range workers {
		if w.id.String() == before.Auto.Decider {
			if err := e.Bucket(streams.DaemonsBucket).Delete(t.Context(), w.id.String()); err != nil {
				t.Fatal(err)
			}
			w.conn.Close()
		}
	}
	until(t, "another one decides", func() bool {
		a := e.entry(t).Auto
		return a != nil && a.Decider != before.Auto.Decider && a.Epoch > before.Auto.Epoch
	})
	e.refuses.Store(most / 2)
	until(t, "it is found again", func() bool { return e.entry(t).Limit <= most/2+1 })
}

// An operator's number ends it at once, and it begins with that when it is automatic
// again.
func TestAutomaticLimitBecomesANumber(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	if err := EnsureModel(t.Context(), e.slots, model, Settings{Limit: batch.AutoLimit(2, 9)}); err != nil {
		t.Fatal(err)
	}
	w := e.worker(t, 1, 100)
	w.work(0, true)
	until(t, "somebody decides", func() bool { a := e.entry(t).Auto; return a != nil && a.Decider != "" })
	e.setLimit(t, 30)
	more(t, []*worker{w}, 100)
	if got := e.entry(t); got.Limit != 30 || got.Auto != nil {
		t.Errorf("limit %d, auto %+v after it was set to 30", got.Limit, got.Auto)
	}
	if err := Apply(t.Context(), e.slots, model, Settings{Limit: batch.AutoLimit(2, 100)}); err != nil {
		t.Fatal(err)
	}
	if got := e.entry(t); got.Limit < 20 || got.Auto == nil {
		t.Errorf("limit %d, auto %+v after it was 30", got.Limit, got.Auto)
	}
	until(t, "it is decided again", func() bool { a := e.entry(t).Auto; return a != nil && a.Decider != "" && a.Epoch > 1 })
}

func TestWithLimit(t *testing.T) {
	t.Parallel()
	deep := &Auto{Least: 4, Most: 200, Epoch: 7, Decider: "d", CutEpoch: 5, State: adaptive.State{Good: 30}}
	held := map[string]Holder{"a": {Held: 20}, "b": {Held: 11}}
	for name, test := range map[string]struct {
		before Entry
		limit  batch.Limit
		want   int
		epoch  uint64 // 0: a number
	}{
		"a number":                      {Entry{Limit: 3}, 7, 7, 0},
		"a new one begins low":          {Entry{}, batch.AutoLimit(1, 200), adaptive.Start, 1},
		"at its lower bound":            {Entry{}, batch.AutoLimit(30, 200), 30, 1},
		"at its upper bound":            {Entry{}, batch.AutoLimit(1, 2), 2, 1},
		"a number before":               {Entry{Limit: 50}, batch.AutoLimit(4, 200), 50, 1},
		"after the bucket was lost":     {Entry{Holders: held}, batch.AutoLimit(4, 200), 31, 1},
		"the same again":                {Entry{Limit: 37, Auto: deep}, batch.AutoLimit(4, 200), 37, 7},
		"other bounds":                  {Entry{Limit: 37, Auto: deep}, batch.AutoLimit(10, 50), 37, 7},
		"bounds that it is outside of":  {Entry{Limit: 37, Auto: deep}, batch.AutoLimit(4, 20), 20, 8},
		"an automatic one, to a number": {Entry{Limit: 37, Auto: deep}, 5, 5, 0},
	} {
		got := test.before.withLimit(test.limit)
		if got.Limit != test.want || (got.Auto != nil) != (test.epoch > 0) || got.Auto != nil && got.Auto.Epoch != test.epoch {
			t.Errorf("%s: limit %d, auto %+v", name, got.Limit, got.Auto)
		}
		if got.setLimit() != test.limit {
			t.Errorf("%s: the setting is read as %v", name, got.setLimit())
		}
		if decoded, err := decode(got.encode()); err != nil || cmp.Diff(got, decoded) != "" {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(got, decoded))
		}
	}
	if deep.Least != 4 || deep.Most != 200 || deep.Epoch != 7 {
		t.Errorf("an entry that others read was changed: %+v", deep)
	}
}

// Only calls that began under a decision are measured for it, and a cut is not cut
// again by calls that began before it.
func TestMeter(t *testing.T) {
	t.Parallel()
	var m meter
	now := time.Unix(1000, 0)
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	done := Outcome{Took: 2 * time.Second, Completed: true, Tokens: 5}
	refused := Outcome{Took: 1, Congestion: adaptive.Refused, Pause: time.Second}
	m.observe(&Auto{Epoch: 1, CohortMS: 1000}, at(0))
	early, late, old := m.begin(at(0.5)), m.begin(at(1.5)), m.begin(at(1.5))
	if m.end(early, done, at(2.5)) || !m.end(late, refused, at(2.5)) {
		t.Error("only what is refused is congestion")
	}
	n := m.take(at(2.5))
	if n.Begun != 3 || n.InFlight != 4 || n.Congested != 1 || n.PauseMS != 1000 || n.Completed.Calls != 1 ||
		n.Early.Begun != 1 || n.Early.Ended != 1 || n.Calls != 1 || n.Tokens != 5 {
		t.Errorf("%+v", n)
	}
	m.observe(&Auto{Epoch: 2, CutEpoch: 2, CohortMS: 1000}, at(3))
	if m.end(old, refused, at(3.5)) {
		t.Error("a call that began before the cut counts after it")
	}
	if m.end(m.begin(at(3.5)), done, at(4)); !m.end(m.begin(at(3.5)), refused, at(4)) {
		t.Error("a call that began after the cut does not count")
	}
	if n = m.take(at(4)); n.Completed.Calls != 1 || n.Congested != 1 || n.Epoch != 2 {
		t.Errorf("%+v", n)
	}
	m.observe(nil, at(5))
	if m.on.Load() {
		t.Error("it measures though the limit is a number")
	}
}

// The slot of a call that was refused at once is not used again at once, unless the
// limit was cut meanwhile.
func TestRefusedCallsKeepTheirSlots(t *testing.T) {
	t.Parallel()
	woken := 0
	a := &Account{model: model, daemon: "d", capacity: 9, wake: notify.New(), urgent: notify.New(), changed: func() { woken++ }}
	entry := Entry{Model: model, Limit: 2, Auto: &Auto{Least: 1, Most: 9, Epoch: 1, CohortMS: 1000}, Holders: map[string]Holder{"d": {Held: 2, Want: 2}}}
	a.observe(entry, 1)
	a.allowed = 2
	refuse := func() {
		t.Helper()
		if !a.Acquire() {
			t.Fatal("no slot is free")
		}
		a.CallEnds(a.CallBegins(), Outcome{Took: 1, Congestion: adaptive.Refused})
		a.Release()
	}
	refuse()
	refuse()
	if a.Acquire() {
		t.Error("a slot of a call that was refused was used again")
	}
	select {
	case <-a.urgent.C():
	default:
		t.Error("nobody was told")
	}
	if a.unpark(time.Now()); woken > 0 {
		t.Error("they were freed at once")
	}
	if a.unpark(time.Now().Add(maxParked)); woken != 1 {
		t.Error("they were not freed")
	}
	refuse()
	cut := *entry.Auto
	cut.Epoch, cut.CutEpoch = 2, 2
	entry.Auto = &cut
	a.observe(entry, 2)
	for range 2 {
		if !a.Acquire() {
			t.Error("slots are kept after the limit was cut")
		}
	}
}
