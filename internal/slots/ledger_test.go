package slots

import (
	"testing"

	"pgregory.net/rapid"
)

// ledger simulates daemons that change one entry by compare-and-set, each
// knowing it as it was when it last looked.
type ledger struct {
	entry    Entry
	revision int
	writes   int
	daemons  []*ledgerDaemon
}

type ledgerDaemon struct {
	id    string
	known Entry
	at    int // revision of known
	want  int
	inUse int
	// Calls begin only below allowed, which is never more than its own last
	// write says it holds.
	allowed int
}

func newLedger(limit, daemons int) *ledger {
	l := &ledger{entry: entryOf(limit, nil), revision: 1}
	for i := range daemons {
		l.daemons = append(l.daemons, &ledgerDaemon{id: id(i)})
	}
	return l
}

func (l *ledger) look(d *ledgerDaemon) {
	d.known, d.at = l.entry, l.revision
}

// settle writes what a daemon should hold, unless the entry is no more what it
// knows.
func (l *ledger) settle(t failer, d *ledgerDaemon) {
	t.Helper()
	next, target := d.known.settle(d.id, d.want, d.inUse)
	d.allowed = min(d.known.Holders[d.id].Held, target)
	if next == d.known.Holders[d.id] || d.at != l.revision {
		return
	}
	before := l.entry.Held()
	l.entry = d.known.with(d.id, next)
	l.revision++
	l.writes++
	l.look(d)
	d.allowed = target
	if held := l.entry.Held(); held > max(l.entry.Limit, before) {
		t.Fatalf("%d slots are held with a limit of %d, and were %d", held, l.entry.Limit, before)
	}
}

func (l *ledger) check(t failer) {
	t.Helper()
	for _, d := range l.daemons {
		if held := l.entry.Holders[d.id].Held; d.inUse > held {
			t.Fatalf("daemon %s runs %d calls and holds %d slots", d.id, d.inUse, held)
		}
	}
}

// rounds lets every daemon look and settle once in a round; calls beyond
// what it may keep end meanwhile.
func (l *ledger) rounds(t failer, n int) {
	t.Helper()
	for range n {
		for _, d := range l.daemons {
			l.look(d)
			_, target := l.entry.settle(d.id, d.want, d.inUse)
			d.inUse = min(d.inUse, target)
			l.settle(t, d)
			l.check(t)
		}
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(rapid.IntRange(1, 16).Draw(t, "limit"), rapid.IntRange(1, 5).Draw(t, "daemons"))
		daemon := rapid.SampledFrom(l.daemons)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { l.check(t) },
			"look": func(t *rapid.T) {
				l.look(daemon.Draw(t, "daemon"))
			},
			"settle": func(t *rapid.T) {
				l.settle(t, daemon.Draw(t, "daemon"))
			},
			"want": func(t *rapid.T) {
				daemon.Draw(t, "daemon").want = rapid.IntRange(0, 20).Draw(t, "want")
			},
			"begin calls": func(t *rapid.T) {
				d := daemon.Draw(t, "daemon")
				d.inUse = rapid.IntRange(d.inUse, max(d.allowed, d.inUse)).Draw(t, "calls")
			},
			"end calls": func(t *rapid.T) {
				d := daemon.Draw(t, "daemon")
				d.inUse = rapid.IntRange(0, d.inUse).Draw(t, "calls")
			},
			"limit": func(t *rapid.T) {
				l.entry.Limit = rapid.IntRange(0, 16).Draw(t, "limit")
				l.revision++
			},
		})

		const enough = 8 // rounds until everyone has seen what everyone else wants and gave back
		l.rounds(t, enough)
		wants, held := make([]int, len(l.daemons)), make([]int, len(l.daemons))
		for i, d := range l.daemons {
			wants[i], held[i] = d.want, l.entry.Holders[d.id].Held
		}
		checkFair(t, l.entry.Limit, wants, held)

		settled := l.writes
		l.rounds(t, enough)
		if l.writes != settled {
			t.Fatalf("%d writes though nothing changed", l.writes-settled)
		}
	})
}
