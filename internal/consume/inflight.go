package consume

import (
	"container/list"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/rate"
	"fusillade/streams"
)

// task is one message that this consumer holds, and the request that it stands
// for. One stage works on it at a time: the pull loop, a flush of starts, the
// ready queue, its call, a flush of results. What others read of it meanwhile
// is marked.
type task struct {
	// Set by newTask, then read only.
	pool     *pool
	msg      *nats.Msg
	delivery postgres.Delivery
	pending  uint64 // messages behind it in the stream
	// published is when the stream got the message, by the broker's clock.
	published time.Time
	received  time.Time // by this machine's monotonic clock

	// Guarded by inflight.mu once the task is in the registry.
	renewed time.Time     // when its lease was
	lease   *list.Element // in inflight.leased; nil: it is not there
	result  int           // bytes of the result that waits to be stored, and one more; 0: none does
	// renewedStart is when the request was started, or when Postgres was last told
	// that its call goes on.
	renewedStart time.Time
	// credential is the one of its call: written before the task is ready. Empty:
	// there is nowhere to call.
	credential hold.Key
	probe      bool // its call finds out whether what is held answers again; written by next
	// credentialRate is the account of the credential's rate limit, and tokens what
	// the call is estimated to use: written before the task is ready. Nil: there is
	// no limit; 0: nobody asked.
	credentialRate *rate.Account
	tokens         int64
	// permits are what the call has taken, before it begins.
	permits permits

	// Owned by the flush of starts that has the task: it is started in Postgres,
	// and lacks only its body.
	deferred bool
	// Written by begin, under inflight.mu, before the task is ready; then read
	// only, by its stage without the lock.
	start    postgres.Start
	started  time.Time // by this machine's monotonic clock
	deadline time.Time // when the batch expires: Postgres's remaining time after started

	// trace is the spans of this delivery; nil: the request is not sampled.
	trace *taskTrace

	// Of abort and mayCall: any goroutine, against that of the call.
	alive   atomic.Int32       // a postgres.Liveness, as last looked up
	cancel  context.CancelFunc // cuts the call off; set before calling is
	calling atomic.Bool
	// streams is set as parts of a streamed answer come.
	streams atomic.Bool
}

// newTask reads a message. The error says what is wrong with it.
func newTask(p *pool, a arrival, now time.Time) (*task, error) {
	claim, err := strconv.Atoi(a.msg.Header.Get(streams.HeaderClaim))
	if err != nil || claim < 1 {
		return nil, fmt.Errorf("header %s is not a claim number", streams.HeaderClaim)
	}
	meta, err := a.msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading message metadata: %w", err)
	}
	return &task{
		pool: p, msg: a.msg, renewed: now, received: now, pending: meta.NumPending, published: meta.Timestamp,
		delivery: postgres.Delivery{ID: a.id, Claim: claim, Number: int(meta.NumDelivered)},
	}, nil
}

func deliveriesOf(tasks []*task) []postgres.Delivery {
	deliveries := make([]postgres.Delivery, len(tasks))
	for i, t := range tasks {
		deliveries[i] = t.delivery
	}
	return deliveries
}

// header returns what the message carries for the endpoint: the batch's
// metadata, and the trace of the call; nil: it has no span.
func (t *task) header(call trace.Span) http.Header {
	received := t.msg.Header
	h := make(http.Header, len(received))
	for name, values := range received {
		if strings.HasPrefix(name, streams.HeaderBatchPrefix) {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	t.setTrace(h, call)
	return h
}

// escalates reports whether the request, which was just started, should go to
// another model by now: so much time has passed in the stream or in a backoff.
// A request that escalated once stays where it is.
func (t *task) escalates(s postgres.Start) bool {
	e := t.pool.account.Escalation()
	return e != nil && s.Template.Model == t.pool.account.Model() && s.Remaining < e.Threshold
}

// liveness is whether the task still owns its request, as far as is known.
func (t *task) liveness() postgres.Liveness { return postgres.Liveness(t.alive.Load()) }

// abort records that the task owns its request no more and cuts off its call,
// if it is being made.
func (t *task) abort(l postgres.Liveness) {
	t.alive.Store(int32(l))
	t.cutOff()
}

// cutOff ends the task's call, if it is being made.
func (t *task) cutOff() {
	if t.calling.Load() {
		t.cancel()
	}
}

// mayCall reports whether the call is to be made, and lets abort cut it off
// from now on: of abort and mayCall at least one sees the other's mark.
func (t *task) mayCall(cancel context.CancelFunc) bool {
	t.cancel = cancel
	t.calling.Store(true)
	return t.liveness() == postgres.Live
}

// inflight is the registry of the tasks that this consumer works on, by
// request. It is safe for concurrent use.
type inflight struct {
	added notify.Signal // to renewLeases: there is a task, and was none

	mu       sync.Mutex
	tasks    map[batch.RequestID]*task
	leased   list.List // of tasks, by when their lease was renewed
	oldest   time.Time // no call that goes on began, or was last told of, before; zero: none goes on
	suspects []*task   // to be looked up; some may be here no more
	bytes    int       // of the bodies of started tasks
}

func newInflight() inflight {
	return inflight{tasks: make(map[batch.RequestID]*task), added: notify.New()}
}

// add registers a task, unless there is one of its request already.
func (f *inflight) add(t *task) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tasks[t.delivery.ID]; ok {
		return false
	}
	f.tasks[t.delivery.ID] = t
	t.lease = f.leased.PushBack(t)
	if len(f.tasks) == 1 {
		f.added.Notify()
	}
	return true
}

// remove takes a task out, and returns the bytes of its result.
func (f *inflight) remove(t *task) (result int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tasks[t.delivery.ID] != t {
		return 0
	}
	delete(f.tasks, t.delivery.ID)
	f.unlease(t)
	f.bytes -= len(t.start.Template.Body)
	result, t.result = t.result, 0
	return max(result-1, 0)
}

// finishing records that the task's call has ended and that so many bytes wait
// to be stored. It returns by how many they are more than before.
func (f *inflight) finishing(t *task, bytes int) (more int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tasks[t.delivery.ID] != t {
		return 0
	}
	more = bytes - max(t.result-1, 0)
	t.result = bytes + 1
	f.leaseAgain(t)
	return more
}

// begin records a start under the lock that leases reads it under.
func (f *inflight) begin(t *task, s postgres.Start, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tasks[t.delivery.ID] == t {
		f.bytes += len(s.Template.Body) - len(t.start.Template.Body)
	}
	t.start, t.started, t.renewedStart, t.deadline = s, now, now, now.Add(s.Remaining)
	f.began(now)
	f.leaseAgain(t)
}

func (f *inflight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tasks)
}

// heavy reports whether the bodies here are as much as is to be kept in memory.
func (f *inflight) heavy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes >= maxBodies
}

// suspect marks the tasks of these lines, or of the whole batch if lines is
// nil, to be looked up. It reports whether there are any.
func (f *inflight) suspect(id batch.ID, lines map[int32]bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for request, t := range f.tasks {
		if request.Batch == id && (lines == nil || lines[request.Line]) {
			f.suspects = append(f.suspects, t)
		}
	}
	// Hints that repeat themselves must not make the list longer than what is here.
	if len(f.suspects) > 2*len(f.tasks) {
		f.suspects = f.listed()
	}
	return len(f.suspects) > 0
}

// suspected takes the tasks that were marked.
func (f *inflight) suspected() []*task {
	f.mu.Lock()
	defer f.mu.Unlock()
	marked := f.suspects
	f.suspects = nil
	return marked
}

func (f *inflight) all() []*task {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listed()
}

// listed needs the lock.
func (f *inflight) listed() []*task {
	out := make([]*task, 0, len(f.tasks))
	for _, t := range f.tasks {
		out = append(out, t)
	}
	return out
}
