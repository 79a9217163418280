package consume

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/tracing"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

// taskTrace is the spans of one delivery of a request. A nil one is that of a request
// which is not sampled, and does nothing. The stage that works on the task owns it.
type taskTrace struct {
	tracer  *tracing.Tracer
	ctx     context.Context // of process
	process trace.Span      // from the receipt to what was stored
	stage   trace.Span      // start or finish; nil: neither goes on
	call    trace.SpanContext
}

// Outcomes of a delivery, beside the states of a request.
const (
	outcomeRetried   = "retried"
	outcomeReleased  = "released"
	outcomeEscalated = "escalated"
	outcomeTakenOver = "taken_over"
	outcomeFenced    = "fenced"
	outcomeDropped   = "dropped"
	outcomeStale     = "stale" // its request has finished, or another claim has it
	outcomeBusy      = "busy"  // another daemon works on it
	outcomeEarly     = "early" // its backoff goes on
)

// traceReceived begins the spans of a task: where its message says that the request
// is sampled, or says nothing and it would be.
func (c *Consumer) traceReceived(t *task) *taskTrace {
	tracer := c.cfg.Tracer
	if tracer == nil {
		return nil
	}
	id, model := t.delivery.ID, t.pool.account.Model()
	name := "process " + tracing.Cut(string(model))
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(tracing.Request(id, model)...),
		trace.WithAttributes(
			tracing.KeyClaim.Int(t.delivery.Claim), tracing.KeyDelivery.Int(t.delivery.Number), tracing.KeyMessagingSystem.String("nats"),
			tracing.KeyMessagingOperationName.String("process"), tracing.KeyMessagingOperationType.String("process")),
	}
	of := &taskTrace{tracer: tracer}
	switch parent := tracing.Parse(t.msg.Header.Get(streams.HeaderTrace), t.msg.Header.Get(streams.HeaderTraceState)); {
	case parent.IsSampled():
		of.ctx, of.process = tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), name, options...)
	case parent.IsValid() || !tracer.Samples(id):
		return nil
	default: // of a dispatcher without traces
		of.ctx, of.process = tracer.StartRequest(id, t.delivery.Claim == 1 && t.delivery.Number == 1, name, options...)
	}
	if !of.process.IsRecording() {
		return nil
	}
	of.begin("start")
	return of
}

func (t *taskTrace) begin(stage string) {
	if t != nil {
		t.endStage()
		_, t.stage = t.tracer.Start(t.ctx, stage)
	}
}

func (t *taskTrace) endStage() {
	if t != nil && t.stage != nil {
		t.stage.End()
		t.stage = nil
	}
}

// outcome says how the delivery ended.
func (t *taskTrace) outcome(o string) {
	if t != nil {
		t.process.SetAttributes(tracing.KeyOutcome.String(o))
	}
}

// started ends the start of a request that is to be called.
func (t *taskTrace) started(s *postgres.Start) {
	if t == nil {
		return
	}
	t.process.SetAttributes(tracing.KeyAttempt.Int(s.Attempt), tracing.KeyGeneration.Int(s.Generation))
	t.endStage()
}

// decided notes why an attempt failed.
func (t *taskTrace) decided(d *decision) {
	if t == nil {
		return
	}
	switch d.kind {
	case fail:
		t.process.SetAttributes(tracing.KeyReason.String(string(d.completion.Reason)), tracing.KeyErrorType.String(string(d.completion.Reason)))
		t.process.SetStatus(codes.Error, tracing.Cut(d.completion.Detail))
	case retry:
		t.process.SetAttributes(tracing.KeyReason.String(string(d.release.Reason)))
	}
}

// written says what a committed write made of the delivery.
func (t *taskTrace) written(k kind, written bool) {
	switch {
	case t == nil:
	case !written:
		t.outcome(outcomeFenced)
	case k == complete:
		t.outcome(string(batch.Completed))
	case k == fail:
		t.outcome(string(batch.Failed))
	case k == retry:
		t.outcome(outcomeRetried)
	default:
		t.outcome(outcomeReleased)
	}
}

// end ends the spans.
func (t *taskTrace) end() {
	if t != nil {
		t.endStage()
		t.process.End()
	}
}

// traceCall begins the span of a call, by OpenTelemetry's conventions for clients of
// models; nil: there is none. It holds nothing of what is sent.
func (t *task) traceCall(to *upstream.Target, model batch.Model) trace.Span {
	if t.trace == nil {
		return nil
	}
	path := t.start.Template.Path
	operation := operationOf(path)
	attributes := append(make([]attribute.KeyValue, 0, 12),
		tracing.KeyGenAIOperation.String(operation), tracing.Text(tracing.KeyGenAIRequestModel, string(model)),
		tracing.KeyRequestID.String(t.delivery.ID.String()), tracing.KeyAttempt.Int(t.start.Attempt), tracing.KeyHTTPMethod.String(http.MethodPost))
	host := ""
	if u, err := url.Parse(to.BaseURL); err == nil && (to.Options == nil || len(to.Options.More) == 0) {
		host = u.Hostname()
		attributes = append(attributes, tracing.Text(tracing.KeyServerAddress, host))
		if port, err := strconv.Atoi(u.Port()); err == nil {
			attributes = append(attributes, tracing.KeyServerPort.Int(port))
		}
	}
	attributes = append(attributes, tracing.KeyGenAIProvider.String(providerOf(path, host)))
	if t.start.Attempt > 0 {
		attributes = append(attributes, tracing.KeyHTTPResendCount.Int(t.start.Attempt))
	}
	_, span := t.trace.tracer.Start(t.trace.ctx, operation+" "+tracing.Cut(string(model)),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	t.trace.call = span.SpanContext()
	return span
}

// operationOf is a path's value of gen_ai.operation.name.
func operationOf(path string) string {
	switch {
	case strings.HasSuffix(path, "/chat/completions"), strings.HasSuffix(path, "/responses"), strings.HasSuffix(path, "/messages"):
		return "chat"
	case strings.HasSuffix(path, "/completions"):
		return "text_completion"
	}
	return tracing.Cut(path[strings.LastIndexByte(path, '/')+1:]) // embeddings, rerank …
}

// providerOf is whose API is spoken: who serves it cannot be told.
func providerOf(path, host string) string {
	switch {
	case strings.HasSuffix(path, "/messages"):
		return "anthropic"
	case strings.HasSuffix(host, ".openai.azure.com"):
		return "azure.ai.openai"
	}
	return "openai"
}

// endCall ends the span of a call; nil: there is none.
func endCall(span trace.Span, o *upstream.Outcome, canceled bool) {
	if span == nil {
		return
	}
	if o.Response.StatusCode > 0 {
		span.SetAttributes(tracing.KeyHTTPStatus.Int(o.Response.StatusCode))
	}
	if o.Response.Model != "" {
		span.SetAttributes(tracing.Text(tracing.KeyGenAIResponseModel, o.Response.Model))
	}
	if u := o.Response.Usage; u != (batch.Usage{}) {
		span.SetAttributes(tracing.KeyGenAIInputTokens.Int64(u.PromptTokens), tracing.KeyGenAIOutputTokens.Int64(u.CompletionTokens))
	}
	switch {
	case o.Reason == "":
		if reasons := upstream.FinishReasons(o.Response.Body); len(reasons) > 0 {
			span.SetAttributes(tracing.KeyGenAIFinishReasons.StringSlice(reasons))
		}
	case canceled:
		failSpan(span, "canceled", "the request has ended elsewhere, by a cancel for example")
	case o.Response.StatusCode >= http.StatusBadRequest:
		failSpan(span, strconv.Itoa(o.Response.StatusCode), o.Detail)
	default:
		failSpan(span, string(o.Reason), o.Detail)
	}
	span.End()
}

func failSpan(span trace.Span, kind, detail string) {
	span.SetAttributes(tracing.KeyErrorType.String(kind))
	span.SetStatus(codes.Error, tracing.Cut(detail))
}

// setTrace puts the trace context into the headers of a call: that of its span; or
// what its message says of a request that is not sampled; or else the request's own
// trace, so that the endpoint's attempts of one request are one trace.
func (t *task) setTrace(h http.Header, call trace.Span) {
	state := t.msg.Header[streams.HeaderTraceState]
	switch given := t.msg.Header[streams.HeaderTrace]; {
	case call != nil:
		h["Traceparent"] = []string{tracing.Traceparent(call.SpanContext())}
		if s := call.SpanContext().TraceState().String(); s != "" {
			state = []string{s}
		}
	case len(given) > 0:
		h["Traceparent"] = given
	default:
		// Without traces of ours the endpoint is left to decide about its own.
		h["Traceparent"] = []string{tracing.Traceparent(tracing.RootContext(t.delivery.ID, t.pool.c.cfg.Tracer == nil))}
	}
	if len(state) > 0 {
		h["Tracestate"] = state
	}
}

// traceFlush makes the span of a statement about many tasks, with a link to each that
// is sampled, and from their stages to it.
func (c *Consumer) traceFlush(name string, began time.Time, tasks int, err error, traces func(yield func(*taskTrace))) {
	if c.cfg.Tracer == nil {
		return
	}
	var links []trace.Link
	var stages []trace.Span
	traces(func(t *taskTrace) {
		if t == nil {
			return
		}
		links = append(links, trace.Link{SpanContext: t.process.SpanContext()})
		if t.stage != nil {
			stages = append(stages, t.stage)
		}
	})
	if len(links) == 0 {
		return
	}
	span := c.cfg.Tracer.StartFlush(name, began, links, trace.WithAttributes(tracing.KeyRequests.Int(tasks)))
	for _, stage := range stages {
		stage.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	if err != nil {
		failSpan(span, postgres.Classify(err).String(), "Postgres did not do it")
	}
	span.End()
}

// observeTraced observes a value, with the trace it is of as its exemplar; nil: with
// none.
func observeTraced(o prometheus.Observer, value float64, t *taskTrace) {
	if exemplar, ok := o.(prometheus.ExemplarObserver); ok && t != nil && t.call.IsValid() {
		exemplar.ObserveWithExemplar(value, prometheus.Labels{"trace_id": t.call.TraceID().String(), "span_id": t.call.SpanID().String()})
		return
	}
	o.Observe(value)
}
