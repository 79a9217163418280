package tracing

import (
	"context"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
)

// scope names the instrumentation in each span.
const scope = "fusillade"

// Tracer makes the spans of this process. A nil one makes none. It is safe for
// concurrent use.
type Tracer struct {
	tracer trace.Tracer
	// sampler decides about requests before a span of them is made; nil: the
	// provider is a program's own, whose sampler decides as the span is made.
	sampler sdktrace.Sampler
}

// New returns a Tracer whose spans a program's own provider makes; nil of nil. The
// ids of the traces of requests are then the provider's own: a request that is
// published again has another one.
func New(provider trace.TracerProvider) *Tracer {
	if provider == nil {
		return nil
	}
	return &Tracer{tracer: provider.Tracer(scope)}
}

// noSpan does nothing.
var noSpan = trace.SpanFromContext(context.Background())

// Start begins a span, as a child of the one in ctx if there is one. The caller
// ends it.
func (t *Tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t == nil {
		return ctx, noSpan
	}
	return t.tracer.Start(ctx, name, options...)
}

// Samples reports whether spans of a request may be recorded, where no process has
// decided yet.
func (t *Tracer) Samples(id batch.RequestID) bool {
	if t == nil {
		return false
	}
	if t.sampler == nil {
		return true // its provider decides
	}
	result := t.sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: TraceID(id)})
	return result.Decision == sdktrace.RecordAndSample
}

// StartRequest begins a span of a sampled request that has none in its process yet.
// As the root, it has the id that RootContext has; else it is a child of the root.
func (t *Tracer) StartRequest(id batch.RequestID, root bool, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx := context.Background()
	if root || t.sampler == nil {
		ctx = context.WithValue(ctx, fixedKey{}, fixed{TraceID(id), rootSpanID(id)})
	} else {
		ctx = trace.ContextWithRemoteSpanContext(ctx, RootContext(id, true))
	}
	return t.tracer.Start(ctx, name, options...)
}

// StartFlush begins a span, in a trace of its own, of work on many requests at once.
// It is recorded because one of them is. Links are to those that are sampled.
func (t *Tracer) StartFlush(name string, began time.Time, links []trace.Link, options ...trace.SpanStartOption) trace.Span {
	ctx := context.WithValue(context.Background(), flushKey{}, true)
	options = append(options, trace.WithNewRoot(), trace.WithTimestamp(began), trace.WithLinks(links...))
	_, span := t.tracer.Start(ctx, name, options...)
	return span
}
