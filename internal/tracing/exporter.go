package tracing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// patientExporter drops what cannot be exported, and says so now and then.
type patientExporter struct {
	sdktrace.SpanExporter
	incident *incident
}

// ExportSpans implements sdktrace.SpanExporter.
func (e patientExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		lost := len(spans)
		var rejected errRejected
		if errors.As(err, &rejected) {
			lost = int(min(uint64(rejected), uint64(lost)))
		}
		e.incident.failed(err, lost)
		return nil
	}
	e.incident.succeeded()
	return nil
}

// logInterval is how often exports that go on failing are logged.
const logInterval = time.Minute

// incident is a time during which exports fail. It is logged when it begins, once a
// minute, and when it is over.
type incident struct {
	log *slog.Logger

	mu     sync.Mutex
	lost   int // spans, since it began
	lasts  bool
	logged time.Time
}

func (i *incident) failed(err error, lost int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lost += lost
	i.lasts = i.lasts || lost > 0
	if now := time.Now(); now.Sub(i.logged) >= logInterval {
		i.logged = now
		i.log.Warn("spans cannot be exported and are dropped", "spans", i.lost, "err", err)
	}
}

func (i *incident) succeeded() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lasts {
		i.log.Info("spans are exported again", "dropped", i.lost)
		i.lost, i.lasts, i.logged = 0, false, time.Time{}
	}
}
