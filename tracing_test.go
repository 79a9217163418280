package fusillade_test

import (
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"fusillade"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// A program's own provider makes the spans: those of a submit are a part of the
// program's trace, those of each request are one trace.
func TestTracerProvider(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) { c.TracerProvider = provider })
	p.run()
	ctx, own := provider.Tracer("program").Start(t.Context(), "nightly")
	id, err := p.SubmitFile(ctx, strings.NewReader(`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}`), fusillade.SubmitOptions{})
	own.End()
	if err != nil {
		t.Fatal(err)
	}
	if b := p.wait(id); b.Completed != 1 {
		t.Fatalf("the batch ended as %+v", b)
	}
	named := make(map[string]tracetest.SpanStub)
	testenv.Eventually(t, "the request's spans have ended", func() bool {
		for _, s := range spans.GetSpans() {
			named[s.Name] = s
		}
		_, ok := named["process m"]
		return ok
	})
	for _, name := range []string{"upload file", "create batch"} {
		if named[name].Parent.SpanID() != own.SpanContext().SpanID() {
			t.Errorf("%s is no child of the program's span", name)
		}
	}
	publish, process, call := named["publish m"], named["process m"], named["chat m"]
	if publish.Parent.IsValid() || process.Parent.SpanID() != publish.SpanContext.SpanID() || call.Parent.SpanID() != process.SpanContext.SpanID() {
		t.Errorf("parents: of publish %v, of process %v, of the call %v", publish.Parent, process.Parent, call.Parent)
	}
	if !slices.ContainsFunc(publish.Links, func(l sdktrace.Link) bool {
		return l.SpanContext.SpanID() == named["create batch"].SpanContext.SpanID()
	}) {
		t.Errorf("the request has no link to its batch: %v", publish.Links)
	}
}
