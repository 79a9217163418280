package dispatch

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/tracing"
	"fusillade/streams"
)

// traceClaim makes the span of a statement that claimed requests, with a link to
// each that is sampled; the zero context: none is.
func (l *lane) traceClaim(began time.Time, claimed []postgres.ClaimedRequest) trace.SpanContext {
	tracer := l.d.cfg.Tracer
	if tracer == nil {
		return trace.SpanContext{}
	}
	var links []trace.Link
	for _, r := range claimed {
		if tracer.Samples(r.ID) {
			links = append(links, trace.Link{SpanContext: tracing.RootContext(r.ID, true)})
		}
	}
	if len(links) == 0 {
		return trace.SpanContext{}
	}
	span := tracer.StartFlush("claim", began, links, trace.WithAttributes(
		tracing.KeyRequests.Int(len(claimed)), tracing.Text(tracing.KeyGenAIRequestModel, string(l.model))))
	defer span.End()
	return span.SpanContext()
}

// publishing is what the span of a publish says of where it comes from.
type publishing struct {
	claim trace.SpanContext // that the request was claimed with; zero: it is not traced
	again bool              // the message stands in for one that the stream had
}

// tracePublish begins the span of a request's publish, and has its message carry the
// context to the consumer: also of a request that is not sampled, whose consumer need
// not decide again. The first publish is the root of the request's trace.
func (l *lane) tracePublish(r postgres.ClaimedRequest, meta *batchMetadata, in publishing, header map[string][]string) trace.Span {
	tracer := l.d.cfg.Tracer
	if !tracer.Samples(r.ID) {
		header[streams.HeaderTrace] = []string{tracing.Traceparent(tracing.RootContext(r.ID, false))}
		return nil
	}
	links := make([]trace.Link, 0, 2)
	for _, c := range [...]trace.SpanContext{meta.created, in.claim} {
		if c.IsValid() {
			links = append(links, trace.Link{SpanContext: c})
		}
	}
	_, span := tracer.StartRequest(r.ID, r.Claim == 1 && !in.again, "publish "+tracing.Cut(string(l.model)),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...),
		trace.WithAttributes(tracing.Request(r.ID, l.model)...),
		trace.WithAttributes(
			tracing.KeyClaim.Int(r.Claim), tracing.KeyAttempt.Int(r.Attempt), tracing.KeyMessagingSystem.String("nats"),
			tracing.KeyMessagingDestination.String(l.d.shard(l.model).Stream()),
			tracing.KeyMessagingOperationName.String("publish"), tracing.KeyMessagingOperationType.String("send")))
	c := span.SpanContext()
	header[streams.HeaderTrace] = []string{tracing.Traceparent(c)}
	if state := c.TraceState().String(); state != "" && len(state) <= tracing.MaxTracestateBytes {
		header[streams.HeaderTraceState] = []string{state}
	}
	return span
}

// endPublish ends the span of a publish; nil: there is none.
func endPublish(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.SetAttributes(tracing.KeyErrorType.String("publish_failed"))
		span.SetStatus(codes.Error, "the stream did not take the message")
	}
	span.End()
}

// traceExpiry makes the span of a batch of which requests expired, with a link to
// its creation.
func (d *Dispatcher) traceExpiry(ctx context.Context, began time.Time, e postgres.EndedBatch) {
	if d.cfg.Tracer == nil {
		return
	}
	var links []trace.Link
	if meta, err := d.metadata.get(ctx, e.Batch); err == nil && meta.created.IsValid() {
		links = append(links, trace.Link{SpanContext: meta.created})
	}
	_, span := d.cfg.Tracer.Start(context.Background(), "expire", trace.WithTimestamp(began), trace.WithLinks(links...), trace.WithAttributes(
		tracing.KeyBatchID.String(e.Batch.String()), tracing.KeyRequests.Int(e.Requests), tracing.KeyOutcome.String(string(batch.Expired)),
		attribute.Bool("fusillade.batch.finished", e.Finished)))
	span.End()
}
