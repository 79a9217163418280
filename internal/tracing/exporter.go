package tracing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// patientExporter drops what cannot be exported, and says so now and then.
type patientExporter struct {
	sdktrace.SpanExporter
	account *account
}

// ExportSpans implements sdktrace.SpanExporter.
func (e patientExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.account.settled.Add(int64(len(spans)))
	if err == nil {
		e.account.succeeded()
	} else {
		lost := len(spans)
		var rejected errRejected
		if errors.As(err, &rejected) {
			lost = int(min(uint64(rejected), uint64(lost)))
		}
		e.account.failed(err, lost)
	}
	e.account.overflowed(e.account.room)
	return nil
}

// countedProcessor counts the spans that are given to the queue, which does not say
// how many it dropped.
type countedProcessor struct {
	sdktrace.SpanProcessor
	account *account
}

// OnEnd implements sdktrace.SpanProcessor.
func (p countedProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		p.account.ended.Add(1)
	}
	p.SpanProcessor.OnEnd(s)
}

// logInterval is how often it is logged that spans go on being dropped.
const logInterval = time.Minute

// account is what becomes of spans. Exports that fail are logged when that begins,
// once a minute, and when it is over; a queue that is full once a minute. It is safe
// for concurrent use.
type account struct {
	log   *slog.Logger
	count func(float64) // of what is dropped
	room  int64         // most spans that wait: in the queue, and in the next export

	ended, settled atomic.Int64 // spans that were made, and that were exported or failed

	mu           sync.Mutex
	lost         int // by exports, since they fail
	lasts        bool
	loggedFailed time.Time
	overflow     int64 // that the queue dropped
	loggedFull   time.Time
}

func (a *account) failed(err error, lost int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(float64(lost))
	a.lost += lost
	a.lasts = a.lasts || lost > 0
	if now := time.Now(); now.Sub(a.loggedFailed) >= logInterval {
		a.loggedFailed = now
		a.log.Warn("spans cannot be exported and are dropped", "spans", a.lost, "err", err)
	}
}

func (a *account) succeeded() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lasts {
		a.log.Info("spans are exported again", "dropped", a.lost)
		a.lost, a.lasts, a.loggedFailed = 0, false, time.Time{}
	}
}

// overflowed finds out what the queue has dropped: what was made, is not settled, and
// cannot be waiting.
func (a *account) overflowed(waiting int64) {
	settled := a.settled.Load() // first: what is made meanwhile counts as waiting
	a.mu.Lock()
	defer a.mu.Unlock()
	more := a.ended.Load() - settled - a.overflow - waiting
	if more <= 0 {
		return
	}
	a.overflow += more
	a.count(float64(more))
	if now := time.Now(); now.Sub(a.loggedFull) >= logInterval {
		a.loggedFull = now
		a.log.Warn("spans are dropped, since more are made than can be exported: sample fewer with OTEL_TRACES_SAMPLER, or raise OTEL_BSP_MAX_QUEUE_SIZE", "spans", a.overflow)
	}
}
