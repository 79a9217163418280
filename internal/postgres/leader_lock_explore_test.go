package postgres

import (
	"fmt"
	"strings"
	"testing"

	"fusillade/internal/protocol"
)

// Two dispatchers, the lock that they lead by, and everything that can happen to
// them and to Postgres: a process freezes, for good or until later, or crashes; the
// lock's session is lost without a word; a standby is promoted, and the old primary
// goes on serving, becomes a standby, or stops. Locks are a server's own, so that
// afterwards two sessions may hold one each. What a leader does goes through other
// connections than the lock, to whichever server these have.

// leaderGuard is one of the things that keep leaders apart, to be taken out.
type leaderGuard uint8

const (
	leaderFence   leaderGuard = 1 << iota // a write checks again that there is something to do
	leaderFirst                           // a term begins with a confirmed write
	leaderPing                            // the session is pinged
	leaderConfirm                         // with a write that lasts
	leaderIdle                            // the server ends the session of who is silent
	leaderAtOnce                          // from the moment on at which it has the lock
)

// candidate is a dispatcher.
type candidate struct {
	frozen bool
	role   role
	server uint8 // where its session is
	lost   bool  // the server has ended the session, and the dispatcher has not noticed
	limit  bool  // the server ends the session if it is silent
	saw    uint8 // what it is about to do; 0: nothing
}

type role uint8

const (
	follows role = iota
	locked       // has the lock, and does not lead yet
	leads
)

// oldPrimary is the state of the first server.
type oldPrimary uint8

const (
	isThePrimary oldPrimary = iota
	wasLeftAlone            // serves on; with synchronous replication none of its commits ends
	isStandby               // takes no writes
	isStopped
)

type leaderState struct {
	c      [2]candidate
	holder [2]uint8 // of the lock, by server: candidate + 1; 0: nobody
	old    oldPrimary
	due    uint8 // what was there to do so far
	done   uint8 // how much of it was done, on the primary
	faults uint8 // left
}

// primary is the server whose writes last.
func (s leaderState) primary() uint8 {
	if s.old == isThePrimary {
		return 0
	}
	return 1
}

type leaderStep struct {
	who  int
	what string
}

func (a leaderStep) String() string { return fmt.Sprintf("%c %s", 'A'+a.who, a.what) }

type leaderModel struct {
	without     leaderGuard
	synchronous bool
	faults      uint8
}

func (m leaderModel) has(g leaderGuard) bool { return m.without&g == 0 }

func (m leaderModel) Initial() []leaderState { return []leaderState{{due: 1, faults: m.faults}} }

// lasts reports whether a write at a server is answered as done.
func (m leaderModel) lasts(s leaderState, server uint8) bool {
	return server == s.primary() || s.old == wasLeftAlone && !m.synchronous
}

func (m leaderModel) Broken(s leaderState) string {
	if s.done > s.due {
		return "what is to be done is done once"
	}
	return ""
}

// Ended is where nothing is left to do, and one leads who may, and nobody else.
func (m leaderModel) Ended(s leaderState) bool {
	var leading []int
	for i, c := range s.c {
		if c.role != follows && !c.frozen {
			leading = append(leading, i)
		}
	}
	if len(leading) != 1 || s.done < s.due {
		return false
	}
	c := s.c[leading[0]]
	return c.role == leads && !c.lost && c.server == s.primary()
}

func (m leaderModel) Next(s leaderState, emit func(protocol.Step[leaderState, leaderStep])) {
	for i := range s.c {
		m.process(s, i, emit)
		m.faultsOf(s, i, emit)
	}
	if s.due < 2 && s.done == s.due {
		to := s
		to.due++
		emit(step(to, 0, "is given something to do", false))
	}
	if s.old == isThePrimary && s.faults > 0 {
		for _, was := range []oldPrimary{wasLeftAlone, isStandby, isStopped} {
			to := s
			to.old = was
			to.faults--
			emit(step(to, 0, "sees a failover: the old primary "+[...]string{"", "serves on", "becomes a standby", "stops"}[was], false))
		}
	}
}

func step(to leaderState, who int, what string, fair bool) protocol.Step[leaderState, leaderStep] {
	return protocol.Step[leaderState, leaderStep]{Action: leaderStep{who, what}, To: to, Fair: fair}
}

// free ends a candidate's session: the server learns of it and releases the lock.
func (s leaderState) free(i int) leaderState {
	c := s.c[i]
	if c.role != follows && !c.lost && s.holder[c.server] == uint8(i+1) {
		s.holder[c.server] = 0
	}
	s.c[i] = candidate{frozen: c.frozen}
	return s
}

// process are the steps of Lead, and of what it runs.
func (m leaderModel) process(s leaderState, i int, emit func(protocol.Step[leaderState, leaderStep])) {
	c := s.c[i]
	if c.frozen {
		return
	}
	switch c.role {
	case follows:
		for server := range uint8(2) {
			serves := server == s.primary() || server == 0 && (s.old == wasLeftAlone || s.old == isStandby)
			if !serves || s.holder[server] != 0 {
				continue
			}
			to := s
			to.holder[server] = uint8(i + 1)
			to.c[i] = candidate{role: locked, server: server, limit: m.has(leaderIdle) && m.has(leaderAtOnce)}
			emit(step(to, i, fmt.Sprintf("takes the lock of server %d", server), server == s.primary()))
		}
	case locked:
		to := s.free(i)
		if !c.lost && (m.lasts(s, c.server) || !m.has(leaderFirst)) {
			to = s
			to.c[i].role = leads
			to.c[i].limit = m.has(leaderIdle)
		}
		begun := step(to, i, "begins its term, or gives up", true)
		if to.c[i].role == leads && !m.lasts(s, c.server) {
			begun.Broken = "a term begins where what is written lasts"
		}
		emit(begun)
	case leads:
		if m.has(leaderPing) && (c.lost || m.has(leaderConfirm) && !m.lasts(s, c.server) || c.server == 0 && s.old == isStopped) {
			emit(step(s.free(i), i, "learns by a ping that its term is over", true))
		}
		emit(step(s.free(i), i, "stops leading", false))
		m.work(s, i, emit)
	}
}

// work is what leaders do: they look, and write what follows from it, later.
func (m leaderModel) work(s leaderState, i int, emit func(protocol.Step[leaderState, leaderStep])) {
	c := s.c[i]
	if c.saw == 0 {
		if s.done < s.due {
			to := s
			to.c[i].saw = s.due
			emit(step(to, i, "sees something to do", true))
		}
		return
	}
	to := s
	to.c[i].saw = 0
	if !m.has(leaderFence) || s.done < s.due && c.saw == s.due {
		to.done++
	}
	emit(step(to, i, "does what it saw", true))
	if s.old != isThePrimary {
		lost := s
		lost.c[i].saw = 0
		emit(step(lost, i, "writes to the old primary", false))
	}
}

func (m leaderModel) faultsOf(s leaderState, i int, emit func(protocol.Step[leaderState, leaderStep])) {
	c := s.c[i]
	if c.frozen {
		to := s
		to.c[i].frozen = false
		emit(step(to, i, "wakes up", false))
	}
	if held := c.role != follows && !c.lost; held && c.limit {
		to := s
		to.holder[c.server] = 0
		to.c[i].lost = true
		emit(step(to, i, "is silent, and the server ends its session", c.frozen))
	}
	if s.faults == 0 {
		return
	}
	less := s
	less.faults--
	if !c.frozen && !s.c[1-i].frozen {
		to := less
		to.c[i].frozen = true
		emit(step(to, i, "freezes", false))
	}
	emit(step(less.free(i), i, "crashes, and begins again", false))
	if c.role != follows && !c.lost {
		to := less
		to.holder[c.server] = 0
		to.c[i].lost = true
		emit(step(to, i, "loses its session without a word", false))
	}
}

// Whatever happens, what leaders do is done once, a term begins only where what is
// written lasts, and in the end one leads. Each guard is taken out, too: then one of
// these is broken.
func TestEveryStateOfTheLeaderLock(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		model  leaderModel
		broken string
	}{
		{"all guards", leaderModel{synchronous: true}, ""},
		{"a write without a look at the row", leaderModel{synchronous: true, without: leaderFence}, "what is to be done is done once"},
		{"no write before a term", leaderModel{synchronous: true, without: leaderFirst}, "a term begins where what is written lasts"},
		{"no ping", leaderModel{synchronous: true, without: leaderPing}, protocol.Liveness},
		{"a ping that writes nothing", leaderModel{synchronous: true, without: leaderConfirm}, protocol.Liveness},
		{"no limit of silence", leaderModel{synchronous: true, without: leaderIdle}, protocol.Liveness},
		{"a limit of silence that comes after the lock", leaderModel{synchronous: true, without: leaderAtOnce}, protocol.Liveness},
		// Without synchronous replication nothing tells a primary that is no more: it
		// must be stopped (docs/reliability.md).
		{"asynchronous replication", leaderModel{}, protocol.Liveness},
	} {
		test.model.faults = 3
		r, err := protocol.Explore(test.model, 1_000_000)
		if err != nil {
			t.Fatal(err)
		}
		if r.Broken != test.broken {
			t.Errorf("%s: want %q broken:\n%v", test.name, test.broken, r)
		}
		first, _, _ := strings.Cut(r.String(), "\n")
		t.Logf("%s: %s", test.name, first)
	}
}
