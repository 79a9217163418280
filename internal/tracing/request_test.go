package tracing

import (
	"context"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
)

// What one process says of a request's trace, another one of another release must
// say too.
func TestTraceIDStaysWhatItIs(t *testing.T) {
	t.Parallel()
	id := batch.RequestID{Batch: batch.ID{1, 2, 3}, Line: 7}
	if got := Traceparent(RootContext(id, true)); got != "00-20d53ca8da97fcfd914ceb4b2eff7a81-d4878e5cc3c70331-01" {
		t.Errorf("the root of a known request is %s", got)
	}
	if TraceID(id) == TraceID(batch.RequestID{Batch: id.Batch, Line: 8}) || TraceID(id) == TraceID(batch.RequestID{Line: 7}) {
		t.Error("two requests have one trace")
	}
}

// Samplers by ratio take a share of a batch's requests, and another process the same.
func TestRatioOfRequests(t *testing.T) {
	t.Parallel()
	for name, sampler := range map[string]sdktrace.Sampler{
		"ratio": NewSampler("traceidratio", 0.1), "parent": NewSampler("parentbased_traceidratio", 0.1),
	} {
		tracer := &Tracer{sampler: flushSampler{sampler}}
		n := 0
		for line := range int32(10_000) {
			if tracer.Samples(batch.RequestID{Line: line}) {
				n++
			}
		}
		if n < 850 || n > 1150 {
			t.Errorf("%s: %d of 10,000 requests are sampled, want a tenth", name, n)
		}
	}
	if (*Tracer)(nil).Samples(batch.RequestID{}) {
		t.Error("no tracer samples")
	}
	for name, want := range map[string]bool{"always_on": true, "always_off": false, "parentbased_always_on": true, "parentbased_always_off": false} {
		if got := (&Tracer{sampler: NewSampler(name, 1)}).Samples(batch.RequestID{}); got != want {
			t.Errorf("%s samples: %v", name, got)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, tt := range []struct {
		header         string
		valid, sampled bool
	}{
		{"00-" + id + "-" + span + "-01", true, true},
		{"00-" + id + "-" + span + "-00", true, false},
		{"00-" + id + "-" + span + "-03", true, true},
		{"cc-" + id + "-" + span + "-01-what-the-future-brings", true, true},
		{"00-" + id + "-" + span + "-01-x", false, false},
		{"ff-" + id + "-" + span + "-01", false, false},
		{"00-" + strings.ToUpper(id) + "-" + span + "-01", false, false},
		{"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false, false},
		{"00-" + id + "-" + strings.Repeat("0", 16) + "-01", false, false},
		{"00-" + id + "-" + span, false, false},
		{"", false, false},
		{"garbage", false, false},
	} {
		c := Parse(tt.header, "")
		if c.IsValid() != tt.valid || c.IsSampled() != tt.sampled {
			t.Errorf("%s: valid %v, sampled %v", tt.header, c.IsValid(), c.IsSampled())
		}
		if tt.valid && tt.header[:2] == "00" && !strings.HasSuffix(tt.header, "03") && Traceparent(c) != tt.header {
			t.Errorf("%s is written as %s", tt.header, Traceparent(c))
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct{ state, want string }{
		{"", header}, {"vendor=x,other=y", header + " vendor=x,other=y"}, {"not a state", header}, {"a=" + strings.Repeat("x", MaxTracestateBytes), header},
	} {
		c := Parse(header, tt.state)
		if got := Encode(c); got != tt.want {
			t.Errorf("%q is written as %q", tt.state, got)
		}
		if !Decode(Encode(c)).Equal(c) {
			t.Errorf("%q is read as another context", Encode(c))
		}
	}
	if Encode(trace.SpanContext{}) != "" || Encode(Parse(header[:len(header)-1]+"0", "")) != "" {
		t.Error("a context that is not recorded is written")
	}
	if Decode("nothing of the kind").IsValid() {
		t.Error("garbage is a context")
	}
}

// A process without traces pays nothing for them.
func TestOffCostsNothing(t *testing.T) {
	var off *Tracer
	id := batch.RequestID{Line: 1}
	if n := testing.AllocsPerRun(100, func() {
		if off.Samples(id) {
			t.Error("it samples")
		}
		_, span := off.Start(context.Background(), "x")
		span.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is decided for each request costs no memory, also where none is sampled.
func TestUnsampledCostsNothing(t *testing.T) {
	tracer := &Tracer{sampler: flushSampler{NewSampler("parentbased_traceidratio", 0)}}
	id := batch.RequestID{Line: 1}
	header := Traceparent(RootContext(id, false))
	if n := testing.AllocsPerRun(100, func() {
		if tracer.Samples(id) || Parse(header, "").IsSampled() {
			t.Error("it is sampled")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
