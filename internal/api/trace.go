package api

import (
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/tracing"
)

// traced makes a span of each request of a route that changes something: what only
// reads is asked again and again. A client's trace context is its parent.
func (s *Server) traced(pattern string, next http.Handler) http.Handler {
	method, path, _ := strings.Cut(pattern, " ")
	if s.cfg.Tracer == nil || method == http.MethodGet {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if parent := tracing.Parse(r.Header.Get("Traceparent"), r.Header.Get("Tracestate")); parent.IsValid() {
			ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
		}
		ctx, span := s.cfg.Tracer.Start(ctx, pattern, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(tracing.KeyHTTPMethod.String(method), tracing.KeyHTTPRoute.String(path)))
		if id, err := batch.ParseID(r.PathValue("id")); err == nil {
			span.SetAttributes(tracing.KeyBatchID.String(id.String()))
		}
		answer := &tracedWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			span.SetAttributes(tracing.KeyHTTPStatus.Int(answer.status))
			if answer.status >= http.StatusInternalServerError {
				span.SetAttributes(tracing.KeyErrorType.String(strconv.Itoa(answer.status)))
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(answer, r.WithContext(ctx))
	})
}

// tracedWriter remembers the status of an answer.
type tracedWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *tracedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *tracedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
