package tracing

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
)

// Upload makes the span "upload file" of what load does. A bad file is an error of
// it, of which the span says nothing more: messages may name what is in the file.
func (t *Tracer) Upload(ctx context.Context, load func(context.Context) (batch.FileID, batch.FileSummary, error)) (id batch.FileID, summary batch.FileSummary, err error) {
	if t == nil {
		return load(ctx)
	}
	ctx, span := t.Start(ctx, "upload file")
	defer func() { endWith(span, err) }()
	id, summary, err = load(ctx)
	if err == nil {
		span.SetAttributes(KeyFileID.String(id.String()), KeyRequests.Int(summary.Requests), KeyBytes.Int64(summary.Bytes))
	}
	return id, summary, err
}

// CreateBatch makes the span "create batch" of what create does. Its context is for
// the row of the batch, as Encode writes it; empty: there is none.
func (t *Tracer) CreateBatch(ctx context.Context, create func(ctx context.Context, traceContext string) (id batch.ID, created bool, err error)) (id batch.ID, created bool, err error) {
	if t == nil {
		return create(ctx, "")
	}
	ctx, span := t.Start(ctx, "create batch")
	defer func() { endWith(span, err) }()
	id, created, err = create(ctx, Encode(span.SpanContext()))
	if err == nil {
		span.SetAttributes(KeyBatchID.String(id.String()))
	}
	return id, created, err
}

func endWith(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(KeyErrorType.String("_OTHER"))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
