package adaptive_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"fusillade/internal/adaptive"
	"fusillade/internal/testenv/effort"
)

// simulation runs calls against an engine in virtual time, with a controller that
// sees what internal/slots would tell it. It is exact: equal seeds give equal runs.
type simulation struct {
	// The engine works on knee calls at once, and more wait in order; it refuses
	// what would be more than refuse in flight. Both may change with time.
	knee, refuse func(seconds float64) int
	// work draws how long the engine works on a call, in seconds, and its tokens.
	work func(*rand.Rand) (seconds, tokens float64)
	// arrivals a second; 0: there is always another call.
	arrivals float64
	// fails is the share of calls that are refused whatever the limit.
	fails float64
	// pause is what refusals ask for.
	pause time.Duration
	// busy plays a cluster with little time: the endpoint counts a call for up to
	// lingers after its answer has come, and a decision takes up to takes.
	lingers, takes float64
	// weight of a call that the engine works on at once with n others: how much
	// slower it gets; nil: not at all below the knee.
	slower func(n int) float64

	least, most, start int
	seed               uint64

	c                          *adaptive.Controller
	rng                        *rand.Rand
	now                        float64
	events                     events
	limit, inFlight, running   int
	lingering                  int
	deciding                   bool
	parked                     int
	queue                      []*simCall
	waiting                    int
	epoch, cutEpoch            int
	epochAt, cohort            float64
	sample                     adaptive.Sample
	sampled, counted, heldTill float64
	points                     []point
	decisions                  []string
	begunAll, refusedAll       int
}

type simCall struct {
	began  float64
	epoch  int
	early  bool
	tokens float64
	work   float64
}

// point is one second of a run.
type point struct {
	limit, peak      int
	done, tokens     float64
	begun, refused   int
	inFlightIntegral float64
}

type event struct {
	at float64
	do func()
}
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (s *simulation) at(t float64, do func()) { heap.Push(&s.events, event{t, do}) }

const tick = 0.25

func fixed(n int) func(float64) int { return func(float64) int { return n } }

func equal(seconds float64) func(*rand.Rand) (float64, float64) {
	return func(*rand.Rand) (float64, float64) { return seconds, 16 }
}

// noisy calls take a normal time.
func noisy(seconds, deviation float64) func(*rand.Rand) (float64, float64) {
	return func(r *rand.Rand) (float64, float64) {
		return max(seconds+deviation*r.NormFloat64(), seconds/100), 16
	}
}

func (s *simulation) run(t *testing.T, seconds float64) {
	t.Helper()
	if s.most == 0 {
		s.most = 1000
	}
	s.least = max(s.least, 1)
	if s.start == 0 {
		s.start = adaptive.Start
	}
	s.rng = rand.New(rand.NewPCG(s.seed, 1))
	if s.c == nil {
		s.c = adaptive.New(s.least, s.most, s.start)
	}
	s.limit, s.cohort = s.c.Limit(), 1
	s.points = make([]point, int(seconds)+1)
	s.at(tick, s.tick)
	if s.arrivals > 0 {
		s.arrive()
	}
	s.begin()
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		if e.at > seconds {
			break
		}
		s.integrate(e.at)
		e.do()
	}
	if testing.Verbose() {
		for _, d := range s.decisions {
			t.Log(d)
		}
	}
}

func (s *simulation) integrate(to float64) {
	s.sample.InFlight += float64(s.inFlight) * (to - s.counted)
	s.point().inFlightIntegral += float64(s.inFlight) * (to - s.counted)
	s.counted, s.now = to, to
}

func (s *simulation) point() *point { return &s.points[int(s.now)] }

func (s *simulation) arrive() {
	s.waiting++
	s.begin()
	s.at(s.now+s.rng.ExpFloat64()/s.arrivals, s.arrive)
}

// begin starts calls while there are slots.
func (s *simulation) begin() {
	for {
		if s.arrivals > 0 && s.waiting == 0 || s.now < s.heldTill {
			return
		}
		if s.inFlight+s.parked >= s.limit {
			s.sample.Full = true
			return
		}
		s.waiting--
		s.call()
	}
}

func (s *simulation) call() {
	p := s.point()
	s.sample.Begun++
	s.begunAll++
	p.begun++
	c := &simCall{began: s.now, epoch: s.epoch, early: s.now-s.epochAt < s.cohort}
	if c.early {
		s.sample.Early.Begun++
	}
	c.work, c.tokens = s.work(s.rng)
	if s.refuse != nil && s.inFlight+s.lingering >= s.refuse(s.now) || s.fails > 0 && s.rng.Float64() < s.fails {
		s.refusedAll++
		p.refused++
		if c.early {
			s.sample.Early.Ended++
		}
		if c.epoch >= s.cutEpoch {
			s.sample.Congested++
			s.sample.Cause, s.sample.Pause = adaptive.Refused, s.pause
			s.at(s.now+0.01, s.report)
		}
		if s.pause > 0 {
			s.heldTill = s.now + s.pause.Seconds()
			s.at(s.heldTill, s.begin)
		}
		// The slot of a call that was refused is kept for as long as a call takes.
		s.parked++
		s.at(s.now+min(c.work, 1), func() { s.parked--; s.begin() })
		return
	}
	s.inFlight++
	p.peak = max(p.peak, s.inFlight)
	s.queue = append(s.queue, c)
	s.serve()
}

// serve lets the engine work.
func (s *simulation) serve() {
	for len(s.queue) > 0 && s.running < s.knee(s.now) {
		c := s.queue[0]
		s.queue = s.queue[1:]
		s.running++
		work := c.work
		if s.slower != nil {
			work *= s.slower(s.running)
		}
		s.at(s.now+work, func() {
			s.running--
			s.inFlight--
			if s.lingers > 0 {
				s.lingering++
				s.at(s.now+s.lingers*s.rng.Float64(), func() { s.lingering-- })
			}
			p := s.point()
			p.done++
			p.tokens += c.tokens
			if c.epoch == s.epoch {
				took, tokens := time.Duration((s.now-c.began)*1e9), int64(c.tokens+0.5)
				if c.early {
					s.sample.Early.Ended++
					s.sample.Early.Completed.Add(took, tokens)
				}
				s.sample.Completed.Add(took, tokens)
			}
			s.serve()
			s.begin()
		})
	}
}

func (s *simulation) tick() {
	s.step()
	s.at(s.now+tick, s.tick)
}

// report is at once, when it was too much.
func (s *simulation) report() {
	if s.sample.Congested > 0 {
		s.step()
	}
}

func (s *simulation) step() {
	s.sample.Elapsed = time.Duration((s.now - s.sampled) * 1e9)
	if s.sample.Elapsed <= 0 {
		return
	}
	if s.deciding {
		return // as a decider that waits for its write
	}
	d := s.c.Step(s.sample)
	s.sample, s.sampled = adaptive.Sample{}, s.now
	if s.takes > 0 && d.Limit != s.limit {
		s.deciding = true
		s.at(s.now+s.takes*s.rng.Float64(), func() {
			s.deciding = false
			s.decided(d)
			s.report()
		})
		return
	}
	s.decided(d)
}

func (s *simulation) decided(d adaptive.Decision) {
	if d.Limit != s.limit && !d.Anew {
		panic("a limit changes without a new cohort")
	}
	if d.Anew {
		s.epoch++
		s.epochAt, s.cohort = s.now, d.Cohort.Seconds()
	}
	if d.Limit != s.limit {
		s.decisions = append(s.decisions, time.Duration(s.now*1e9).Round(time.Millisecond).String()+" "+itoa(s.limit)+" → "+itoa(d.Limit)+" "+string(d.Cause))
		s.limit = d.Limit
		if d.Cut {
			s.cutEpoch = s.epoch
			s.sample.Congested = 0
		}
	}
	s.point().limit = s.limit
	s.begin()
}

func itoa(n int) string { return time.Duration(n).String()[:len(time.Duration(n).String())-2] }

// throughput is calls a second between two times, in whole seconds.
func (s *simulation) throughput(from, to int) float64 {
	var sum float64
	for _, p := range s.points[from:to] {
		sum += p.done
	}
	return sum / float64(to-from)
}

func (s *simulation) tokens(from, to int) float64 {
	var sum float64
	for _, p := range s.points[from:to] {
		sum += p.tokens
	}
	return sum / float64(to-from)
}

func (s *simulation) peak(from, to int) int {
	n := 0
	for _, p := range s.points[from:to] {
		n = max(n, p.peak)
	}
	return n
}

func (s *simulation) refusedShare(from, to int) float64 {
	var begun, refused int
	for _, p := range s.points[from:to] {
		begun, refused = begun+p.begun, refused+p.refused
	}
	return float64(refused) / math.Max(float64(begun), 1)
}

// alone skips a test whose one goroutine the race detector would only slow down.
func alone(t *testing.T) {
	t.Helper()
	if effort.Raced {
		t.Skip("it has one goroutine: make test runs it without the race detector")
	}
	t.Parallel()
}

// seeds is how many random courses are played.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return 1
	}
	return n
}

// some are the first of the cases, where not all are played.
func some(cases []int) []int {
	if testing.Short() {
		return cases[:2]
	}
	return cases
}
