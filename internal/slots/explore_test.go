package slots

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/notify"
	"fusillade/internal/protocol"
	"fusillade/internal/testenv/effort"
)

// Two daemons, one entry, and everything that can happen to the three: the steps
// of a daemon are those of Account, made on an account that is built from the state.

// seen is an entry at a revision; the zero value: there is none.
type seen struct {
	exists   bool
	limit    uint8
	held     [2]uint8
	want     [2]uint8
	revision uint8
}

func (s seen) entry() Entry {
	if !s.exists {
		return Entry{}
	}
	e := Entry{Model: "m", Limit: int(s.limit)}
	for d := range 2 {
		e = e.with(id(d), Holder{Held: int(s.held[d]), Want: int(s.want[d])})
	}
	return e
}

func seenOf(e Entry, revision uint64) seen {
	s := seen{exists: e.Model != "", limit: uint8(e.Limit), revision: uint8(revision)}
	for d := range 2 {
		h := e.Holders[id(d)]
		s.held[d], s.want[d] = uint8(h.Held), uint8(h.Want)
	}
	return s
}

func (s seen) sum() uint8 { return s.held[0] + s.held[1] }

// write is one on its way to the bucket.
type write struct {
	on      bool
	restore bool // it enters calls in flight into a new bucket
	next    seen
	landed  bool // next.revision says as which
}

// side is a daemon.
type side struct {
	up      bool
	noticed bool // that the bucket is another one; or it is not
	known   seen
	allowed uint8
	target  uint8
	pending uint8
	inUse   uint8
	ready   uint8
	restore bool
	write   write // next.revision is the one that it replaces, until it has landed
}

// shared is a state.
type shared struct {
	bucket seen
	before seen // the entry as it was one write ago: news that may still come
	sides  [2]side
	stray  write // one whose daemon does not wait for it any more
	wanted uint8 // the limit that operators want

	crashes, losses, limits, demands, strays uint8 // that may still happen
}

// account builds a daemon's account.
func (s *side) account(d int) *Account {
	now := time.Now()
	return &Account{
		model: "m", daemon: id(d), capacity: 2, wake: notify.New(), changed: func() {}, gone: func() {},
		entry: s.known.entry(), revision: uint64(s.known.revision), allowed: int(s.allowed), target: int(s.target), pending: uint64(s.pending),
		inUse: int(s.inUse), ready: int(s.ready), restoring: s.restore, asked: now.Add(-askInterval / 2),
	}
}

// learn reads it back.
func (s *side) learn(a *Account) {
	s.known = seenOf(a.entry, a.revision)
	s.allowed, s.target, s.pending, s.inUse, s.restore = uint8(a.allowed), uint8(a.target), uint8(a.pending), uint8(a.inUse), a.restoring
}

// sharing is the model.
type sharing struct{ begin shared }

type stepName struct {
	text   string
	daemon int
}

func (n stepName) String() string {
	if n.daemon < 0 {
		return n.text
	}
	return fmt.Sprintf("daemon %d: %s", n.daemon+1, n.text)
}

func (m sharing) Initial() []shared { return []shared{m.begin} }

// Ended: whatever waited was called, and nobody holds what is no more.
func (m sharing) Ended(s shared) bool {
	for d, a := range s.sides {
		if a.ready > 0 || a.inUse > 0 || a.write.on || !a.noticed || !a.up && s.bucket.held[d]+s.bucket.want[d] > 0 {
			return false
		}
	}
	return s.bucket.exists && s.bucket.limit == s.wanted && !s.stray.on
}

// Broken looks at the invariants of the package.
func (m sharing) Broken(s shared) string {
	calls := uint8(0)
	for d, a := range s.sides {
		calls += a.inUse
		if !a.up || !a.noticed {
			continue
		}
		if a.allowed > s.bucket.held[d] {
			return "I3: allowed ≤ held"
		}
		if a.inUse > s.bucket.held[d] && !a.restore {
			return "I2: in use ≤ held"
		}
	}
	if m.begin.limits == 0 && calls > m.begin.wanted {
		return "calls in flight never pass the limit"
	}
	return ""
}

func (m sharing) Next(s shared, emit func(protocol.Step[shared, stepName])) {
	step := func(text string, d int, fair bool, do func(*shared) string) {
		to := s
		broken := do(&to)
		if to == s && broken == "" {
			return
		}
		to.shorten()
		emit(protocol.Step[shared, stepName]{Action: stepName{text, d}, To: to, Fair: fair, Broken: broken})
	}
	for d := range s.sides {
		if s.sides[d].up {
			m.live(s, d, step)
		} else {
			m.dead(s, d, step)
		}
	}
	if s.stray.on {
		step("a write arrives late", -1, true, func(s *shared) string {
			w := s.stray
			s.stray = write{}
			return s.put(&w)
		})
		step("a late write is lost", -1, true, func(s *shared) string {
			s.stray = write{}
			return ""
		})
	}
	m.leader(s, step)
}

type stepper func(text string, d int, fair bool, do func(*shared) string)

// live are the steps of a daemon that runs.
func (m sharing) live(s shared, d int, step stepper) {
	side := s.sides[d]
	if s.demands > 0 && side.ready+side.inUse < 2 {
		step("a request waits", d, false, func(s *shared) string {
			s.demands--
			s.sides[d].ready++
			return ""
		})
	}
	if side.ready > 0 {
		step("begin a call", d, true, func(s *shared) string {
			a := s.sides[d].account(d)
			if !a.Acquire() {
				return ""
			}
			s.sides[d].learn(a)
			s.sides[d].ready--
			return ""
		})
	}
	if side.inUse > 0 {
		step("a call ends", d, true, func(s *shared) string {
			a := s.sides[d].account(d)
			a.Release()
			s.sides[d].learn(a)
			return ""
		})
	}
	if side.noticed {
		if s.bucket.exists {
			step("hear of the entry", d, true, func(s *shared) string { return s.hear(d, s.bucket) })
		}
		if s.before.exists {
			step("hear of the entry as it was", d, false, func(s *shared) string { return s.hear(d, s.before) })
		}
	} else {
		step("notice that the bucket is another one", d, true, func(s *shared) string {
			a := s.sides[d].account(d)
			a.forget(time.Time{})
			s.sides[d].learn(a)
			s.sides[d].noticed = true
			s.sides[d].write = write{} // its answer is of another generation
			return ""
		})
	}
	if s.crashes > 0 {
		step("crash", d, false, func(s *shared) string {
			s.crashes--
			if w := s.sides[d].write; w.on && !w.landed && s.sides[d].noticed && !s.stray.on {
				s.stray = w
			}
			s.sides[d] = siding(false, s.sides[d].noticed)
			return ""
		})
	}
	m.writes(s, d, step)
}

func siding(up, noticed bool) side { return side{up: up, noticed: noticed} }

// hear is what a watch or a poll brings.
func (s *shared) hear(d int, news seen) string {
	a := s.sides[d].account(d)
	a.observe(news.entry(), uint64(news.revision))
	s.sides[d].learn(a)
	return ""
}

// writes are the steps of Keeper.settle and write.
func (m sharing) writes(s shared, d int, step stepper) {
	side := s.sides[d]
	if !side.write.on {
		for _, asks := range []bool{false, true} {
			text := map[bool]string{false: "plan", true: "plan, and ask for a slot without work"}[asks]
			step(text, d, !asks, func(s *shared) string {
				a := s.sides[d].account(d)
				if asks {
					a.asked = time.Time{}
				}
				next, revision, on := a.plan(time.Now(), nil)
				s.sides[d].learn(a)
				if on {
					s.sides[d].write = write{on: true, restore: a.restoring, next: seenOf(next, revision)}
				}
				return ""
			})
		}
		return
	}
	if !side.noticed {
		step("write to a bucket that is gone", d, true, func(s *shared) string {
			s.sides[d].write = write{}
			return ""
		})
		return
	}
	if !side.write.landed {
		step("the write arrives and is answered", d, true, func(s *shared) string {
			w := s.sides[d].write
			s.sides[d].write = write{}
			if broken := s.put(&w); broken != "" {
				return broken
			}
			if !w.landed {
				return s.hear(d, s.bucket)
			}
			a := s.sides[d].account(d)
			a.applied(w.next.entry(), uint64(w.next.revision))
			s.sides[d].learn(a)
			return ""
		})
		if s.strays > 0 && !s.stray.on {
			step("the answer is waited for in vain, and the write is on its way", d, false, func(s *shared) string {
				s.strays--
				s.stray, s.sides[d].write = s.sides[d].write, write{}
				return ""
			})
			step("the write arrives, and its answer is lost", d, false, func(s *shared) string {
				s.strays--
				w := s.sides[d].write
				s.sides[d].write = write{}
				return s.put(&w)
			})
			step("the write arrives, and its answer is late", d, false, func(s *shared) string {
				s.strays--
				return s.put(&s.sides[d].write)
			})
		}
		return
	}
	step("the late answer of the write", d, true, func(s *shared) string {
		w := s.sides[d].write
		s.sides[d].write = write{}
		a := s.sides[d].account(d)
		a.applied(w.next.entry(), uint64(w.next.revision))
		s.sides[d].learn(a)
		return ""
	})
}

// put is the broker's compare-and-set. A revision of 0 makes the entry.
func (s *shared) put(w *write) string {
	if s.bucket.revision != w.next.revision || s.bucket.exists != (w.next.revision > 0) {
		return ""
	}
	if w.next.sum() > max(w.next.limit, s.bucket.sum()) && !w.restore {
		return "I1: what is held does not grow beyond the limit"
	}
	s.replace(w.next)
	w.landed, w.next.revision = true, s.bucket.revision
	return ""
}

func (s *shared) replace(next seen) {
	s.before = s.bucket
	next.revision = s.bucket.revision + 1
	s.bucket = next
}

// dead are the steps of a daemon that is gone: what it holds is released, and
// another one begins.
func (m sharing) dead(s shared, d int, step stepper) {
	if s.bucket.held[d]+s.bucket.want[d] > 0 {
		step("what it holds is released", d, true, func(s *shared) string {
			next := s.bucket
			next.held[d], next.want[d] = 0, 0
			s.replace(next)
			return ""
		})
	} else if !s.stray.on {
		step("another daemon begins", d, true, func(s *shared) string {
			s.sides[d] = siding(true, true)
			s.before.held[d], s.before.want[d] = 0, 0 // they were another's
			return ""
		})
	}
}

// leader sets limits. In a new bucket it does so once every daemon that may have
// calls has entered them.
func (m sharing) leader(s shared, step stepper) {
	restored := true
	for d, a := range s.sides {
		restored = restored && (!a.up || a.noticed && a.inUse <= s.bucket.held[d])
	}
	if restored && (!s.bucket.exists || s.bucket.limit != s.wanted) {
		step("the leader sets the limit", -1, true, func(s *shared) string {
			next := s.bucket
			next.exists, next.limit = true, s.wanted
			s.replace(next)
			return ""
		})
	}
	if s.limits > 0 && s.bucket.exists {
		step("an operator changes the limit", -1, false, func(s *shared) string {
			s.limits--
			s.wanted = 3 - s.wanted
			return ""
		})
	}
	if s.losses > 0 && s.bucket.exists {
		step("the broker loses the bucket", -1, false, func(s *shared) string {
			s.losses--
			s.bucket, s.before, s.stray = seen{}, seen{}, write{}
			for d := range s.sides {
				s.sides[d].noticed = !s.sides[d].up
				s.sides[d].write.landed = false
			}
			return ""
		})
	}
}

// shorten replaces revisions by their ranks: only their order is looked at. Those
// of a bucket that is gone are never compared with those of another.
func (s *shared) shorten() {
	places := []*uint8{&s.bucket.revision, &s.before.revision, &s.stray.next.revision}
	for d := range s.sides {
		a := &s.sides[d]
		places = append(places, &a.known.revision, &a.pending, &a.write.next.revision)
	}
	var used [64]bool
	for _, p := range places {
		used[*p] = true
	}
	var rank [64]uint8
	n := uint8(0)
	for v := 1; v < len(used); v++ {
		if used[v] {
			n++
			rank[v] = n
		}
	}
	for _, p := range places {
		*p = rank[*p]
	}
}

// Whatever happens within the bounds, the invariants of the package hold, and each
// request that waits for a slot gets one.
func TestEveryStateOfSharing(t *testing.T) {
	t.Parallel()
	begin := shared{bucket: seen{exists: true, limit: 2, revision: 1}, wanted: 2, demands: 3}
	for d := range begin.sides {
		begin.sides[d] = side{up: true, noticed: true, known: begin.bucket}
	}
	for name, change := range map[string]func(*shared){
		"demand":                func(*shared) {},
		"crash":                 func(s *shared) { s.crashes = 1 },
		"lost answers":          func(s *shared) { s.strays = 1 },
		"limit":                 func(s *shared) { s.limits, s.demands = 2, 2 },
		"crash and lost answer": func(s *shared) { s.crashes, s.strays, s.demands = 1, 1, 2 },
		"lost bucket":           func(s *shared) { s.losses, s.demands = 1, 2 },
		"lost bucket, crash":    func(s *shared) { s.losses, s.crashes, s.demands = 1, 1, 2 },
		"lost bucket, limit":    func(s *shared) { s.losses, s.limits, s.demands = 1, 1, 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin
			change(&s)
			if effort.Raced || testing.Short() {
				// make model explores all of it, without the race detector
				s.demands = min(s.demands, 1)
				if s.crashes+s.losses+s.limits > 1 {
					t.Skip("it has one goroutine, and many states")
				}
			}
			report, err := protocol.Explore(sharing{s}, 3_000_000)
			if err != nil || report.Broken != "" {
				t.Fatal(report, err)
			}
			t.Log(report)
		})
	}
}
