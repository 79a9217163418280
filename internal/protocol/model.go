package protocol

import (
	"fmt"
	"strings"
)

// Config bounds a model of the protocol.
type Config struct {
	Name       string
	Requests   int  // 1 or 2
	TwoBatches bool // each request has a batch of its own; else they are two lines of one
	// Faults is how many of them may happen, of all that Kinds has.
	Faults int
	Kinds  Fault
	// Retries is the setting MAX_RETRIES of the consumers.
	Retries int
	// Changes is how often people, and deadlines, interfere: cancel, rerun, expire.
	Changes int
	// Leaders is how many dispatchers may act as the leader at a time. Two is what
	// there may be after one was frozen.
	Leaders int
	// Slice is how many live requests one transaction of a cancel or an expiry
	// finishes; 0: all.
	Slice int
	// Without are the guards that are taken out.
	Without uint64
}

// Fault is a set of kinds of faults.
type Fault uint32

// The kinds of faults.
const (
	Crash     Fault = 1 << iota // a process dies, and what it had under way is lost
	Freeze                      // a consumer stands still until it is taken for dead, and wakes
	Stop                        // a consumer is told to stop
	Hang                        // a call takes longer than the processing timeout
	LoseOne                     // a message, an ack or an answer is lost; a start is lost with Postgres's memory
	Duplicate                   // a lease ends, or a publish arrives twice, while all goes well
	Forget                      // the broker forgets all messages, or how often it delivered them
	GoBack                      // the broker has again a message that it had before
	Linger                      // a write arrives after its sender stopped waiting
	Slow                        // a dispatcher takes longer than the claim timeout to publish
)

// Any is all faults.
const Any Fault = 1<<10 - 1

// maxTakeovers is the setting MAX_TAKEOVERS of the consumers.
const maxTakeovers = 2

// Protocol is the model of the life of requests.
type Protocol struct {
	Config
	recorded bool
	log      []Statement // of the step that is being made
}

// Action names a step.
type Action struct {
	Verb    string
	Request int8 // and one more; 0: it is of none
	Daemon  int8 // likewise
	Claim   uint8
	// Delivery, and what else there is to say.
	Delivery uint8
	Detail   Detail
}

// Detail says how a step went.
type Detail uint8

// The details.
const (
	Well        Detail = iota
	AnswerLost         // it was done, and who asked does not know
	Unflushed          // it was answered, and lost in a crash of Postgres
	BrokerLost         // it was done, and the broker was not told
	BrokerLate         // likewise, and will be told
	Lingers            // it is on its way, and who asked does not wait for it
	NotDone            // it was not done
	OutOfWindow        // earlier than that would happen by itself
)

var details = map[Detail]string{
	AnswerLost: "the answer is lost", Unflushed: "a crash of Postgres loses it", BrokerLost: "the broker is not told",
	BrokerLate: "the broker is told late", Lingers: "it is on its way, and nobody waits for it", NotDone: "it is not done", OutOfWindow: "too early",
}

// String implements fmt.Stringer.
func (a Action) String() string {
	var b strings.Builder
	b.WriteString(a.Verb)
	if a.Request > 0 {
		fmt.Fprintf(&b, " request %d", a.Request)
	}
	if a.Claim > 0 {
		fmt.Fprintf(&b, " of claim %d", a.Claim)
	}
	if a.Delivery > 0 {
		fmt.Fprintf(&b, ", delivery %d", a.Delivery)
	}
	if a.Daemon > 0 {
		fmt.Fprintf(&b, " by consumer %d", a.Daemon)
	}
	if d := details[a.Detail]; d != "" {
		b.WriteString(": " + d)
	}
	return b.String()
}

// Initial implements Model: nothing is claimed, and two consumers run.
func (p *Protocol) Initial() []State {
	s := State{Faults: uint8(p.Faults), Changes: uint8(p.Changes)}
	for b := range p.batches() {
		s.Batches[b].Open = 1
	}
	for d := range consumers {
		s.Daemons[d] = Daemon{Process: Running, Record: Beats}
	}
	return []State{s}
}

func (c *Config) batches() int {
	if c.TwoBatches {
		return c.Requests
	}
	return 1
}

// batchOf is the batch of a request.
func (c *Config) batchOf(r int) int {
	if c.TwoBatches {
		return r
	}
	return 0
}

// lines are the requests of a batch, from first to before end, in order.
func (c *Config) lines(b int) (first, end int) {
	if c.TwoBatches {
		return b, b + 1
	}
	return 0, c.Requests
}

func (c *Config) total(b int) uint8 {
	first, end := c.lines(b)
	return uint8(end - first)
}

// Ended implements Model: every batch has ended, and nothing is under way.
func (p *Protocol) Ended(s State) bool {
	for b := range p.batches() {
		if s.Batches[b].Ended == Absent {
			return false
		}
	}
	for r := range p.Requests {
		if s.Messages[r].Claim > 0 || s.Publishes[r] != ([dispatchers]Publish{}) {
			return false
		}
		for d := range daemons {
			if s.Daemons[d].Tasks[r].Stage != NoTask {
				return false
			}
		}
	}
	return s.Late.Kind == NoWrite && s.Expiring == 0
}

// The invariants. The last ones are of steps, and are looked at where the step is.
const (
	OneResult    = "a request has a row or a result, and never two"
	Constraints  = "rows are what the constraints of their table allow"
	CountersRows = "the counters are the rows"
	StatusRows   = "the status follows from the results"
	Immutable    = "a result does not change, unless its request is rerun, and one that completed never"
	OneCall      = "calls ≤ 1 + retries + crashes"
	OwnerWrites  = "a request is changed by its owner alone"
	OwnerStores  = "what its owner writes is stored"
	ReleaseLost  = "a release takes nothing that was claimed or started since"
	BackoffKept  = "no start before the end of a backoff"
	DeadStayDead = "who is dead stays dead"
	NothingMore  = "of a batch that is being cancelled, or has ended, nothing is claimed, and of one that has ended nothing started"
	CallsFinish  = "a request that is being called does not expire"
	DeadlineOnly = "nothing expires before its deadline"
	DeadReplaced = "the next delivery does not wait for a daemon that is dead"
	PastAcked    = "a message of a claim of the past is acked"
)

// Broken implements Model: the invariants of a state.
func (p *Protocol) Broken(s State) string {
	for r := range p.Requests {
		row, res := s.Rows[r], s.Results[r]
		if row.State != Absent && res.State != Absent {
			return OneResult
		}
		owned := row.Daemon > 0
		if owned != (row.State == Processing) || row.Due > 0 && row.State != Pending || row.Backoff > 0 && (row.Due > 0 || row.State != Pending) {
			return Constraints
		}
	}
	for b := range p.batches() {
		if broken := p.brokenBatch(&s, b); broken != "" {
			return broken
		}
	}
	return ""
}

func (p *Protocol) brokenBatch(s *State, b int) string {
	a := &s.Batches[b]
	counts := map4{}
	first, end := p.lines(b)
	upto, beyond := uint8(0), uint8(0)
	for r := first; r < end; r++ {
		has := s.Rows[r].State != Absent || s.Results[r].State != Absent
		switch line := uint8(r - first + 1); {
		case line <= a.Last && !has:
			return OneResult // it is lost
		case line <= a.Last:
			upto++
		case has:
			beyond++
		}
		counts.add(s.Results[r].State, 1)
	}
	counts.add(a.SkippedAs, a.Skipped)
	if a.Claimed != upto+beyond || beyond > a.OutOfOrder || a.Claimed+a.Skipped > p.total(b) || (a.Open == 1) != (a.Claimed+a.Skipped < p.total(b)) ||
		(a.Skipped > 0) != (a.SkippedAs != Absent) {
		return CountersRows
	}
	if counts != (map4{a.Completed, a.Failed, a.Canceled, a.Expired}) {
		return CountersRows
	}
	want := Absent
	if counts[0]+counts[1]+counts[2]+counts[3] == p.total(b) {
		switch {
		case a.Cancelling == 1 && counts[2] > 0:
			want = Canceled
		case counts[3] > 0:
			want = Expired
		case counts[0] > 0:
			want = Completed
		case counts[1] > 0:
			want = Failed
		default:
			want = Canceled
		}
	}
	if a.Ended != want {
		return StatusRows
	}
	return ""
}

// map4 counts results by state, from Completed on.
type map4 [4]uint8

func (m *map4) add(state Phase, n uint8) {
	if state >= Completed {
		m[state-Completed] += n
	}
}

// Next implements Model.
func (p *Protocol) Next(s State, emit func(Step[State, Action])) {
	e := emitter{p: p, from: s, emit: emit}
	for b := range p.batches() {
		p.claims(&e, b)
		p.changes(&e, b)
	}
	for r := range p.Requests {
		p.dispatches(&e, r)
		p.broker(&e, r)
		for d := range daemons {
			p.consumes(&e, d, r)
		}
		p.requestChanges(&e, r)
	}
	for d := range daemons {
		p.lives(&e, d)
	}
	p.leads(&e)
	p.arrivesLate(&e)
}

// emitter makes the steps from one state.
type emitter struct {
	p    *Protocol
	from State
	emit func(Step[State, Action])
}

// fair makes a step that happens in the end.
func (e *emitter) fair(a Action, do func(*State) (broken string)) { e.step(a, true, do) }

// may makes a step that may never happen.
func (e *emitter) may(a Action, do func(*State) (broken string)) { e.step(a, false, do) }

// fault makes a step that is a fault, if there may be another one of the kind.
func (e *emitter) fault(kind Fault, a Action, do func(*State) (broken string)) {
	if e.from.Faults == 0 || e.p.Kinds&kind == 0 {
		return
	}
	e.step(a, false, func(s *State) string {
		s.Faults--
		return do(s)
	})
}

// change makes a step that people, or deadlines, make.
func (e *emitter) change(a Action, do func(*State) (broken string)) {
	if e.from.Changes == 0 {
		return
	}
	e.step(a, false, func(s *State) string {
		s.Changes--
		return do(s)
	})
}

func (e *emitter) step(a Action, fair bool, do func(*State) (broken string)) {
	to := e.from
	e.p.log = nil
	broken := do(&to)
	if broken == "" && to == e.from {
		return
	}
	if broken == "" {
		broken = e.p.changed(&e.from, &to, a)
	}
	if !e.p.recorded {
		to.normal()
	}
	e.emit(Step[State, Action]{Action: a, To: to, Fair: fair, Broken: broken})
}

// changed looks at what no step may do.
func (p *Protocol) changed(from, to *State, a Action) string {
	for r := range p.Requests {
		was, is := from.Results[r], to.Results[r]
		if was.State != Absent && was != is && (was.State == Completed || a.Verb != Rerun && a.Verb != RerunLine) {
			return Immutable
		}
		if to.Rows[r].Claim > 7 {
			panic("a claim has a number that State has no place for")
		}
	}
	return ""
}
