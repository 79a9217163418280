package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
)

// TraceID is the id of a request's trace. Each part of it is as good as random,
// as samplers by ratio want it.
func TraceID(id batch.RequestID) trace.TraceID {
	h := hashed(id)
	return trace.TraceID(h[:len(trace.TraceID{})])
}

// rootSpanID is the id of the first span of a request's trace.
func rootSpanID(id batch.RequestID) trace.SpanID {
	h := hashed(id)
	return trace.SpanID(h[len(trace.TraceID{}):][:len(trace.SpanID{})])
}

func hashed(id batch.RequestID) [sha256.Size]byte {
	const prefix = "fusillade request "
	var text [len(prefix) + len(id.Batch) + 4]byte
	n := copy(text[:], prefix)
	n += copy(text[n:], id.Batch[:])
	binary.BigEndian.PutUint32(text[n:], uint32(id.Line))
	return sha256.Sum256(text[:])
}

// RootContext is the context of the first span of a request's trace, whether or
// not it was made yet.
func RootContext(id batch.RequestID, sampled bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: TraceID(id), SpanID: rootSpanID(id), TraceFlags: trace.TraceFlags(0).WithSampled(sampled), Remote: true,
	})
}

// fixed are ids that a span is to have, if the process's own provider makes it.
type fixed struct {
	trace trace.TraceID
	span  trace.SpanID
}

type fixedKey struct{}

// ids makes random ids, but where others are fixed.
type ids struct{}

// NewIDs implements sdktrace.IDGenerator.
func (ids) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if f, ok := ctx.Value(fixedKey{}).(fixed); ok {
		return f.trace, f.span
	}
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id, ids{}.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) (span trace.SpanID) {
	for !span.IsValid() {
		binary.BigEndian.PutUint64(span[:], rand.Uint64())
	}
	return span
}

// Traceparent writes a context as the header of that name.
// Format: W3C Trace Context, version 00.
func Traceparent(c trace.SpanContext) string {
	const form = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	id, span := c.TraceID(), c.SpanID()
	text := make([]byte, 0, len(form))
	text = append(text, "00-"...)
	text = hex.AppendEncode(text, id[:])
	text = append(text, '-')
	text = hex.AppendEncode(text, span[:])
	if c.IsSampled() {
		return string(append(text, "-01"...))
	}
	return string(append(text, "-00"...))
}

// MaxTracestateBytes is the longest tracestate that is passed on; a longer one is
// left out, as the specification of W3C Trace Context allows.
const MaxTracestateBytes = 512

// Parse reads the headers traceparent and tracestate. What is malformed is no
// context, for which IsValid does not hold.
func Parse(traceparent, tracestate string) trace.SpanContext {
	var id trace.TraceID
	var span trace.SpanID
	var version, flags [1]byte
	const form = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	t := traceparent
	if len(t) < len(form) || t[2] != '-' || t[35] != '-' || t[52] != '-' ||
		!decode(version[:], t[:2]) || !decode(id[:], t[3:35]) || !decode(span[:], t[36:52]) || !decode(flags[:], t[53:55]) ||
		version[0] == 0xff || version[0] == 0 && len(t) > len(form) || len(t) > len(form) && t[len(form)] != '-' || !id.IsValid() || !span.IsValid() {
		return trace.SpanContext{}
	}
	c := trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true}
	if tracestate != "" && len(tracestate) <= MaxTracestateBytes {
		if state, err := trace.ParseTraceState(tracestate); err == nil {
			c.TraceState = state
		}
	}
	return trace.NewSpanContext(c)
}

// decode reads lower-case hexadecimal digits, twice as many as there are bytes.
func decode(into []byte, text string) bool {
	for i := range text {
		var digit byte
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		default:
			return false
		}
		into[i/2] = into[i/2]<<4 | digit
	}
	return true
}

// Encode writes the context of a span for the row of a batch, as its traceparent and
// after a blank its tracestate, if there is one. Empty: the span is not recorded, so
// a link to it would lead nowhere.
func Encode(c trace.SpanContext) string {
	if !c.IsValid() || !c.IsSampled() {
		return ""
	}
	text := Traceparent(c)
	if state := c.TraceState().String(); state != "" && len(state) <= MaxTracestateBytes {
		text += " " + state
	}
	return text
}

// Decode reads what Encode has written. What is malformed is no context.
func Decode(text string) trace.SpanContext {
	traceparent, tracestate, _ := strings.Cut(text, " ")
	return Parse(traceparent, tracestate)
}
