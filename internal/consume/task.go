package consume

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// task is one message in hand and the request that it stands for.
type task struct {
	lane     *lane
	msg      jetstream.Msg
	delivery postgres.Delivery
	pending  uint64 // messages behind it in the stream
	renewed  time.Time
	// published is when the stream got the message, by the broker's clock.
	published time.Time

	// Known once started.
	start    postgres.Start
	started  time.Time // by this machine's monotonic clock
	deadline time.Time // when the batch expires: Postgres's remaining time after started
}

// newTask reads a message. The error says what is wrong with it.
func newTask(l *lane, msg jetstream.Msg, now time.Time) (*task, error) {
	_, id, err := streams.ParseRequestSubject(msg.Subject())
	if err != nil {
		return nil, err
	}
	claim, err := strconv.Atoi(msg.Headers().Get(streams.HeaderClaim))
	if err != nil || claim < 1 {
		return nil, fmt.Errorf("header %s is not a claim number", streams.HeaderClaim)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading message metadata: %w", err)
	}
	return &task{
		lane: l, msg: msg, renewed: now, pending: meta.NumPending, published: meta.Timestamp,
		delivery: postgres.Delivery{ID: id, Claim: claim, Number: int(meta.NumDelivered)},
	}, nil
}

// header returns what the message carries for the upstream: the batch's
// metadata and the trace.
func (t *task) header() http.Header {
	received := t.msg.Headers()
	h := make(http.Header, len(received))
	for name, values := range received {
		if strings.HasPrefix(name, streams.HeaderBatchPrefix) {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	h["Traceparent"] = received[streams.HeaderTrace]
	return h
}

// hands are the messages that this consumer works on, by request.
type hands struct {
	mu    sync.Mutex
	tasks map[batch.RequestID]*task
}

// take adds a task, unless the request is in hand already.
func (h *hands) take(t *task) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.tasks[t.delivery.ID]; ok {
		return false
	}
	h.tasks[t.delivery.ID] = t
	return true
}

func (h *hands) drop(t *task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tasks, t.delivery.ID)
}

func (h *hands) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tasks)
}

// due returns the tasks whose lease is to be renewed now, and marks them.
// started and started-for-too-long are judged by the caller's timeout.
func (h *hands) due(now time.Time, every, processingTimeout time.Duration) []*task {
	h.mu.Lock()
	defer h.mu.Unlock()
	var due []*task
	for _, t := range h.tasks {
		if now.Sub(t.renewed) < every || !t.started.IsZero() && now.Sub(t.started) >= processingTimeout {
			continue
		}
		t.renewed = now
		due = append(due, t)
	}
	return due
}

// begin records a start under the lock that due reads it under.
func (h *hands) begin(t *task, s postgres.Start, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.start, t.started, t.deadline = s, now, now.Add(s.Remaining)
}
