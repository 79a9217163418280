package app

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/tracing"
)

// traced has the daemons of a cluster make spans.
func (c *cluster) traced() *tracetest.InMemoryExporter {
	spans := tracetest.NewInMemoryExporter()
	c.tracer = tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	return spans
}

// The durations of calls lead to their traces, for who asks for OpenMetrics; the
// metrics keep their names in both forms.
func TestExemplars(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	spans := c.traced()
	c.settings.Admin.Addr = "127.0.0.1:0"
	r := c.start("standalone")
	c.awaitEnd(c.begin("r", 5, "m"))
	var calls []string
	testenv.Eventually(t, "all calls have ended", func() bool {
		calls = nil
		for _, s := range spans.GetSpans() {
			if s.Name == "chat m" {
				calls = append(calls, fmt.Sprintf(`trace_id=%q,span_id=%q`, s.SpanContext.TraceID(), s.SpanContext.SpanID()), fmt.Sprintf(`span_id=%q,trace_id=%q`, s.SpanContext.SpanID(), s.SpanContext.TraceID()))
			}
		}
		return len(calls) == 10
	})
	var open, text string
	testenv.Eventually(t, "both forms have the same series", func() bool { // some begin with what a loop of the leader finds
		open, text = r.metricsAs(t, "application/openmetrics-text;version=1.0.0"), r.metricsAs(t, "text/plain")
		return slices.Equal(families(open), families(text))
	})
	var found int
	for line := range strings.Lines(open) {
		if _, exemplar, ok := strings.Cut(line, "# {"); ok {
			found++
			if !strings.HasPrefix(line, "fusillade_request_duration_seconds_bucket{") || !slices.ContainsFunc(calls, func(of string) bool { return strings.HasPrefix(exemplar, of) }) {
				t.Errorf("exemplar %s", line)
			}
		}
	}
	if found == 0 || strings.Contains(text, "# {") {
		t.Errorf("%d exemplars in OpenMetrics, want some, and none in the plain text", found)
	}
}

func (r *running) metricsAs(t *testing.T, accept string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := (&http.Client{Timeout: testenv.Patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var series = regexp.MustCompile(`(?m)^(fusillade_[a-z0-9_]+)[{ ]`)

// families are the names of our series.
func families(text string) []string {
	names := make(map[string]bool)
	for _, m := range series.FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// What waits when its batch expires shows in one span, with a link to the creation of
// the batch.
func TestExpiryIsTraced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	spans := c.traced()
	_, create := c.tracer.Start(context.Background(), "create batch")
	id := c.begin("r", 3, "m")
	c.Exec(`UPDATE batches SET trace_context = $2, expires_at = now() - interval '1 s' WHERE id = $1`, [16]byte(id), tracing.Encode(create.SpanContext()))
	c.Exec(`INSERT INTO models (model, paused) VALUES ('m', true)`)
	c.start("dispatcher", func(s *config.Standalone) { s.CancellationPollInterval = ms(50) })
	var expired tracetest.SpanStub
	testenv.Eventually(t, "the expiry is exported", func() bool {
		for _, s := range spans.GetSpans() {
			if s.Name == "expire" {
				expired = s
			}
		}
		return expired.Name != ""
	})
	if len(expired.Links) != 1 || !expired.Links[0].SpanContext.TraceID().IsValid() || expired.Links[0].SpanContext.SpanID() != create.SpanContext().SpanID() {
		t.Errorf("links %v, want one to %v", expired.Links, create.SpanContext())
	}
	testenv.Eventually(t, "the batch has expired", func() bool {
		b, err := c.Store.GetBatch(t.Context(), id, nil)
		return err == nil && b.Status == batch.StatusExpired
	})
}

func TestStartTraces(t *testing.T) {
	t.Parallel()
	var off config.Traces
	tracer, stop, err := StartTraces(t.Context(), "x", &off, nil, testenv.Logger(t))
	if tracer != nil || err != nil {
		t.Errorf("without settings: %v, %v", tracer, err)
	}
	stop()
	bad := config.Traces{TracesExporter: "otlp", Sampler: "coin"}
	if _, _, err := StartTraces(t.Context(), "x", &bad, nil, testenv.Logger(t)); err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_SAMPLER") {
		t.Errorf("a bad sampler: %v", err)
	}
	// A program that ends is not held up by a collector that is away.
	away := config.Traces{TracesExporter: "otlp", OTLPTimeout: "200"}
	if err := away.OTLPEndpoint.Set("http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	tracer, stop, err = StartTraces(t.Context(), "x", &away, nil, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), "last")
	span.End()
	done := make(chan struct{})
	go func() { stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(testenv.Patience):
		t.Fatal("the stop waits for the collector")
	}
}
