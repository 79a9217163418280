package protocol

import (
	"cmp"
	"slices"
)

// Bounds of the model: an array has a place for each.
const (
	requests    = 2 // requests, of one batch or of two
	dispatchers = 2 // each has one publish of a request, or one look of a leader, under way at most
	consumers   = 2 // processes that run at a time
	daemons     = 3 // records: those of the processes, and one of a process that is gone
)

// State is all that there is at one instant: the rows of Postgres, the messages of
// the broker, and what processes remember and have under way. It has no clock.
// What time does is a step: a heartbeat gets old, a lease or a backoff ends, a
// deadline passes.
//
// A dispatcher is what it has under way. One that is frozen is one that takes no
// step, and one that dies loses what it had under way.
type State struct {
	Rows      [requests]Row
	Results   [requests]Result
	Batches   [requests]Batch
	Messages  [requests]Message
	Daemons   [daemons]Daemon
	Publishes [requests][dispatchers]Publish
	Sweeps    [dispatchers]Sweep
	Late      Write // one write whose sender has stopped waiting for it
	// Expiring is a batch, and one more, that a leader has found to be overdue; 0: none.
	Expiring uint8
	// Called is 1 once a call was made that nothing but its outcome can repeat.
	Called [requests]uint8

	Faults  uint8 // that may still happen
	Changes uint8 // that people may still make
}

// Phase is the state of a request, as table requests or results has it.
type Phase uint8

// The states of a row, and of a result.
const (
	Absent Phase = iota // there is no row
	Pending
	Claimed
	Processing
	Completed
	Failed
	Canceled
	Expired
)

// Row is a row of table requests.
type Row struct {
	State     Phase
	Claim     uint8
	Delivery  uint8
	Daemon    uint8 // and one more; 0: none
	Attempt   uint8
	Due       uint8 // 1: it may be claimed; 2: later
	Backoff   uint8 // 1: it is not over
	Takeovers uint8
	Overtime  uint8 // 1: it was started longer ago than the processing timeout
	Stray     uint8 // 1: its start came late, and the daemon does not know of it
}

// Result is a row of table results.
type Result struct {
	State Phase
	Claim uint8
}

// Batch is a row of table batches, with its only cursor.
type Batch struct {
	Ended      Phase // 0: in progress; Completed, Failed, Canceled or Expired
	Cancelling uint8
	Overdue    uint8 // its deadline has passed
	Reruns     uint8

	Completed, Failed, Canceled, Expired uint8

	Open       uint8 // of the cursor, as what follows
	Claimed    uint8
	Skipped    uint8
	SkippedAs  Phase
	Last       uint8
	OutOfOrder uint8
}

// Message is the one message that the stream keeps of a request's subject.
type Message struct {
	Claim    uint8 // 0: there is none
	Delivery uint8 // how often it was delivered
	Out      uint8 // 1: it is leased; 0: it can be delivered
}

// Process is what becomes of a consumer's process.
type Process uint8

// The lives of a process.
const (
	Gone     Process = iota
	Running          // and its heartbeats are in time
	Stopping         // it takes nothing more
	Frozen           // for so long that its heartbeat is stale
	Lapsed           // it was frozen, and will fence itself
)

// Record is what Postgres knows of a daemon.
type Record uint8

// The records of a daemon.
const (
	Dead   Record = iota // declared dead, or removed
	Beats                // heard of within the threshold
	Silent               // not heard of for the threshold
	Over                 // dead, as it said itself, with a heartbeat that is not old
)

// Daemon is a consumer: a process, its record, and its task of each request.
type Daemon struct {
	Process Process
	Record  Record
	Tasks   [requests]Task
}

// Stage is how far a consumer has come with a message.
type Stage uint8

// The stages of a task. The last ones are decisions that wait to be written.
const (
	NoTask Stage = iota
	Received
	Started
	Calling
	Hung // it waits for ever: for a slot, or an answer
	Complete
	Fail
	Retry    // its message waits out the backoff in the stream
	RetryDue // it waits in Postgres
	Return   // a release, without an outcome
)

func (s Stage) decided() bool { return s >= Complete }

// Task is a message that a consumer holds.
type Task struct {
	Stage    Stage
	Claim    uint8
	Delivery uint8
	Title    Title
}

// Title is what is true of a task's right to its request, whatever the row says.
// No step of the code may look at it.
type Title uint8

// The titles of a task. Calls that a timeout, a cancel or a start that a crash of
// Postgres has lost allow twice are Excused.
const (
	Stranger Title = iota // others may have the request: it must not be called
	Excused               // the request was taken away for a cause that the task could not know
	Owner                 // the latest start that was granted, and nothing has happened since
)

// Publish is a claimed request that a dispatcher is publishing.
type Publish struct {
	Claim uint8 // 0: there is none
	Step  PublishStep
	Seen  uint8 // the claim of the message that is in the way
}

// PublishStep is what is to be done next.
type PublishStep uint8

// The steps of a publish.
const (
	ToPublish   PublishStep = iota
	ToLook                  // refused: the subject is taken
	ToRemove                // the message in the way is of an earlier claim
	ToRepublish             // it was removed, or is gone
	ToRelease               // it could not be published
)

// Sweep is an overdue request that a leader has read, and what it does next.
type Sweep struct {
	Step     SweepStep
	Request  uint8
	Claim    uint8
	Delivery uint8
	Moved    uint8 // 1: it was claimed or started since; no step may look at it
}

// SweepStep is what is to be done next.
type SweepStep uint8

// The steps of a sweep.
const (
	NoSweep      SweepStep = iota
	LookUp                 // its message
	Lost                   // there is none: release it
	LostUnopened           // there is one of a claim that it has not reached: release it, and remove that
)

// WriteKind says what a write is.
type WriteKind uint8

// The writes that may come late.
const (
	NoWrite WriteKind = iota
	LateStart
	LateDecision // Stage says which
	LateRenewal
	LateHeartbeat
	LateAck
	LatePublish
)

// Write is a write on its way to Postgres or the broker. Nobody waits for it.
type Write struct {
	Kind    WriteKind
	Daemon  uint8
	Request uint8
	Task    Task // of a publish or an ack only the claim
}

// normal brings a state into the one form that stands for all that differ only in
// the names of daemons and dispatchers, and in numbers of deliveries by more than
// two: nothing looks at more than whether one of them follows another.
func (s *State) normal() {
	s.orderDaemons()
	for r := range requests {
		p := &s.Publishes[r]
		slices.SortFunc(p[:], func(a, b Publish) int {
			return cmp.Or(cmp.Compare(a.Claim, b.Claim), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Seen, b.Seen))
		})
		s.shortenDeliveries(r)
	}
	slices.SortFunc(s.Sweeps[:], func(a, b Sweep) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Request, b.Request), cmp.Compare(a.Claim, b.Claim),
			cmp.Compare(a.Delivery, b.Delivery), cmp.Compare(a.Moved, b.Moved))
	})
}

// orderDaemons numbers daemons by what they are and by who refers to them.
func (s *State) orderDaemons() {
	var keys [daemons]uint64
	for d := range daemons {
		a := &s.Daemons[d]
		k := uint64(a.Process)<<2 | uint64(a.Record)
		for r := range requests {
			t := a.Tasks[r]
			k = k<<13 | uint64(t.Stage)<<9 | uint64(t.Claim)<<6 | uint64(t.Delivery)<<2 | uint64(t.Title)
			k <<= 1
			if s.Rows[r].Daemon == uint8(d+1) {
				k |= 1
			}
		}
		k <<= 1
		if s.Late.ofDaemon() && s.Late.Daemon == uint8(d) {
			k |= 1
		}
		keys[d] = k
	}
	order := [daemons]int{0, 1, 2}
	for i := 1; i < daemons; i++ {
		for j := i; j > 0 && keys[order[j]] > keys[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	if order == [daemons]int{0, 1, 2} {
		return
	}
	var to [daemons]uint8
	before := s.Daemons
	for i, d := range order {
		s.Daemons[i], to[d] = before[d], uint8(i)
	}
	for r := range requests {
		if d := s.Rows[r].Daemon; d > 0 {
			s.Rows[r].Daemon = to[d-1] + 1
		}
	}
	if s.Late.ofDaemon() {
		s.Late.Daemon = to[s.Late.Daemon]
	}
}

// ofDaemon reports whether the field Daemon means one.
func (w Write) ofDaemon() bool { return w.Kind >= LateStart && w.Kind <= LateHeartbeat }

// shortenDeliveries replaces the numbers of a request's deliveries by the least
// ones of which the same is true.
func (s *State) shortenDeliveries(r int) {
	var places [2 + daemons + dispatchers + 1]*uint8
	n := 0
	add := func(p *uint8) {
		places[n] = p
		n++
	}
	add(&s.Rows[r].Delivery)
	if s.Messages[r].Claim > 0 {
		add(&s.Messages[r].Delivery)
	}
	for d := range daemons {
		if t := &s.Daemons[d].Tasks[r]; t.Stage != NoTask {
			add(&t.Delivery)
		}
	}
	for i := range s.Sweeps {
		if w := &s.Sweeps[i]; w.Step != NoSweep && int(w.Request) == r {
			add(&w.Delivery)
		}
	}
	if w := &s.Late; w.Task.Delivery > 0 && int(w.Request) == r {
		add(&w.Task.Delivery)
	}
	var used [16]bool
	for _, p := range places[:n] {
		used[*p] = true
	}
	used[0] = true
	var short [16]uint8
	last := 0
	for v := 1; v < len(used); v++ {
		if used[v] {
			short[v] = short[last] + uint8(min(v-last, 2))
			last = v
		}
	}
	for _, p := range places[:n] {
		*p = short[*p]
	}
}
