package consume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

// example is a request that was called.
type example struct {
	task     *task
	outcome  upstream.Outcome
	decision decision
}

// randomExample is of a batch and a user that no other is of.
func randomExample(i int) example {
	t := &task{
		published: time.Now(), deadline: time.Now().Add(time.Hour),
		delivery: postgres.Delivery{ID: batch.RequestID{Line: int32(i + 1)}, Claim: 1, Number: 1 + i%7},
		start:    postgres.Start{Attempt: i % 7, Template: batch.Template{CustomID: fmt.Sprint("user-", i)}},
	}
	_, _ = rand.Read(t.delivery.ID.Batch[:])
	e := example{task: t, outcome: upstream.Outcome{
		Elapsed: time.Second, Detail: fmt.Sprint("detail ", i), Response: upstream.Response{
			StatusCode: 200, RequestID: fmt.Sprint("req-", i), Model: fmt.Sprint("m-", i), Usage: batch.Usage{PromptTokens: 3, CompletionTokens: 5},
		},
	}}
	e.decision = decision{kind: complete, task: t, completion: postgres.Completion{
		Delivery: t.delivery, State: batch.Completed, Attempts: t.start.Attempt + 1, StatusCode: 200,
		RequestID: e.outcome.Response.RequestID, AnsweredModel: e.outcome.Response.Model, Usage: e.outcome.Response.Usage,
	}}
	switch i % 5 {
	case 1:
		e.outcome.Reason, e.outcome.Response.StatusCode = batch.RetriableHTTPStatus, 503
		e.decision = decision{kind: retry, task: t, release: postgres.Release{Delivery: t.delivery, Retry: true, Reason: e.outcome.Reason}}
	case 2:
		e.outcome.Reason, e.outcome.Response.StatusCode = batch.RetriableHTTPStatus, i%1000
		e.decision.kind, e.decision.denied = fail, batch.DeniedDeadline
		completion := &e.decision.completion
		completion.State, completion.Reason, completion.StatusCode = batch.Failed, e.outcome.Reason, i%1000
	}
	return e
}

func (m *modelMetrics) all(e example, written bool) {
	m.received(e.task)
	m.calling(e.task)
	m.called(e.outcome, e.decision)
	m.written(&e.decision, written)
}

// However many batches, users and requests there are, the series are as many
// as models and statuses make them.
func TestSeriesDoNotGrow(t *testing.T) {
	t.Parallel()
	series := func(n int) int {
		reg := prometheus.NewRegistry()
		m := newMetrics(reg).model(testModel)
		for i := range n {
			m.all(randomExample(i), i%3 > 0)
		}
		count, err := testutil.GatherAndCount(reg)
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	// 5,000 requests have had every combination there is.
	few, many := series(5_000), series(25_000)
	if few != many {
		t.Errorf("%d series after 5,000 requests, %d after 25,000", few, many)
	}

	reg := prometheus.NewRegistry()
	shared := newMetrics(reg)
	for i := range 3000 {
		shared.model(batch.Model(fmt.Sprint("model ", i))).all(randomExample(0), true)
	}
	if n, err := testutil.GatherAndCount(reg, "fusillade_requests_retried_total"); n != 1001 || err != nil {
		t.Errorf("%d labels for 3,000 models, %v", n, err)
	}
}

// A consumer closes what it has of a model that is retired, and its series go.
func TestRetiredModelIsClosed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(cfg *dispatch.Config) { cfg.ModelIdle = 500 * time.Millisecond })
	reg := prometheus.NewRegistry()
	r := c.start(func(cfg *Config) { cfg.Metrics = reg })
	id := c.Begin(lines(3, testModel))
	until(t, "the batch has finished", func() bool { return c.Batch(id).Status.Terminal() })
	until(t, "nothing is open or reported of the model", func() bool {
		n, err := testutil.GatherAndCount(reg, "fusillade_requests_finished_total")
		return err == nil && n == 0 && len(r.openPools()) == 0
	})
}

// What is reported of a model goes with its pool, and of no other model.
func TestSeriesOfRetiredModelsAreRemoved(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	shared := newMetrics(reg)
	count := func() int {
		n, err := testutil.GatherAndCount(reg)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	work := func(name batch.Model) {
		m := shared.model(name)
		for i := range 1000 {
			m.all(randomExample(i), i%3 > 0)
		}
		m.placed(429)
	}
	work("stays")
	alone := count()
	work("goes")
	shared.model("goes") // it has come back already
	both := count()
	if shared.forget("goes"); count() != both {
		t.Errorf("%d series of a model that has come back, want %d", count(), both)
	}
	if shared.forget("goes"); count() != alone {
		t.Errorf("%d series after a model was retired, %d without it", count(), alone)
	}
	if work("goes"); count() != both {
		t.Errorf("%d series after a model came back, want %d", count(), both)
	}
}

func TestWrittenCountsOnce(t *testing.T) {
	t.Parallel()
	completion := func(state batch.State, reason batch.Reason, status int) postgres.Completion {
		return postgres.Completion{State: state, Reason: reason, StatusCode: status, Attempts: 3, Usage: batch.Usage{PromptTokens: 3, CompletionTokens: 5}}
	}
	const model = "meta-llama/Llama-3.1:8b instruct"
	completed := func(status, reason, code string) string {
		return fmt.Sprintf(`requests_finished_total{model=%q,reason=%q,status=%q,status_code=%q} 1`, model, reason, status, code)
	}
	tokens := []string{
		fmt.Sprintf(`tokens_total{kind="prompt",model=%q} 3`, model),
		fmt.Sprintf(`tokens_total{kind="completion",model=%q} 5`, model),
	}
	for name, tt := range map[string]struct {
		decision decision
		lost     bool
		late     bool
		taken    int // over, from daemons that died
		want     []string
	}{
		"completed":              {decision: decision{kind: complete, completion: completion(batch.Completed, "", 200)}, want: append(tokens, completed("completed", "", "200"))},
		"completed with 204":     {decision: decision{kind: complete, completion: completion(batch.Completed, "", 204)}, want: append(tokens, completed("completed", "", "204"))},
		"failed without answer":  {decision: decision{kind: fail, completion: completion(batch.Failed, batch.NetworkError, 0)}, want: append(tokens, completed("failed", "network_error", ""))},
		"failed with odd status": {decision: decision{kind: fail, completion: completion(batch.Failed, batch.NonRetriableHTTPStatus, 777)}, want: append(tokens, completed("failed", "non_retriable_http_status", "other"))},
		"canceled":               {decision: decision{kind: fail, completion: completion(batch.Canceled, batch.BatchCancelled, 0)}, want: append(tokens, completed("canceled", "batch_cancelled", ""))},
		"late": {decision: decision{kind: complete, completion: completion(batch.Completed, "", 200)}, late: true, want: append(tokens, completed("completed", "", "200"),
			fmt.Sprintf(`requests_finished_after_deadline_total{model=%q,status="completed"} 1`, model))},
		"taken over": {decision: decision{kind: complete, completion: completion(batch.Completed, "", 200)}, taken: 2, want: append(tokens, completed("completed", "", "200"),
			`stale_requests_reclaimed_total{cause="takeover"} 2`)},
		"out of retries": {decision: decision{kind: fail, completion: completion(batch.Failed, batch.Timeout, 0), denied: batch.DeniedMaxRetries}, want: append(tokens,
			completed("failed", "timeout", ""), fmt.Sprintf(`retry_denied_total{model=%q,reason="max_retries"} 1`, model))},
		"out of time": {decision: decision{kind: fail, completion: completion(batch.Failed, batch.Timeout, 0), denied: batch.DeniedDeadline}, want: append(tokens,
			completed("failed", "timeout", ""), fmt.Sprintf(`retry_denied_total{model=%q,reason="deadline"} 1`, model))},
		"not worth a retry": {decision: decision{kind: fail, completion: completion(batch.Failed, batch.BuilderError, 0), denied: batch.DeniedNotRetriable},
			want: append(tokens, completed("failed", "builder_error", ""))},
		"retried":       {decision: decision{kind: retry}, want: []string{fmt.Sprintf(`requests_retried_total{model=%q} 1`, model)}},
		"released":      {decision: decision{kind: release}},
		"fenced result": {decision: decision{kind: complete, completion: completion(batch.Completed, "", 200)}, lost: true, want: []string{`fenced_writes_total{write="result"} 1`}},
		"fenced retry":  {decision: decision{kind: retry}, lost: true, want: []string{`fenced_writes_total{write="retry"} 1`}},
		"fenced return": {decision: decision{kind: release}, lost: true, want: []string{`fenced_writes_total{write="return"} 1`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := prometheus.NewRegistry()
			m := newMetrics(reg).model(testModel)
			f := tt.decision
			f.task = &task{deadline: time.Now().Add(time.Hour), start: postgres.Start{Takeovers: tt.taken}}
			if tt.late {
				f.task.deadline = time.Now().Add(-time.Minute)
			}
			m.written(&f, !tt.lost)
			want := make(map[string]bool)
			for _, sample := range tt.want {
				want["fusillade_"+sample] = true
			}
			if diff := cmp.Diff(want, counted(t, reg)); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
		})
	}
}

// counted are the counters that are not zero, as lines of Prometheus text.
func counted(t *testing.T, reg prometheus.Gatherer) map[string]bool {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]bool)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := m.GetCounter().GetValue()
			if n == 0 {
				continue
			}
			labels := ""
			for _, l := range m.GetLabel() {
				labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
			}
			line := f.GetName()
			if labels != "" {
				line += "{" + labels[1:] + "}"
			}
			out[fmt.Sprint(line, " ", n)] = true
		}
	}
	return out
}

func drops(r *running, item string) float64 {
	return testutil.ToFloat64(r.metrics.drops.WithLabelValues(item))
}

// What is dropped is counted.
func TestDropsAreCounted(t *testing.T) {
	t.Parallel()
	t.Run("response", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		r := c.start(func(cfg *Config) { cfg.Caller = &corrupting{cfg.Caller, "r0"} })
		results := c.AwaitEnd(c.Begin(lines(2, testModel)))
		if results["r0"].State != batch.Failed {
			t.Errorf("%+v", results["r0"])
		}
		until(t, "the response is counted", func() bool { return drops(r, telemetry.DroppedResponse) == 1 })
	})
	t.Run("result", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		away := func(int64) fault { return refused }
		r := c.startTuned(func(consumer *Consumer) {
			consumer.cfg.Store = &faultyStore{store: consumer.cfg.Store, finish: away}
		})
		c.Begin(lines(3, testModel))
		until(t, "the calls have ended", func() bool { return len(c.endpoint.all()) == 3 && c.endpoint.inFlight() == 0 })
		r.doNone()
		r.wait()
		if n := drops(r, telemetry.DroppedResult); n != 3 {
			t.Errorf("%v dropped results are counted, want 3", n)
		}
	})
	t.Run("start", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		r := c.startTuned(func(consumer *Consumer) { consumer.cfg.Store = refusingStore{consumer.cfg.Store} })
		c.Begin(lines(1, testModel))
		until(t, "the start is counted", func() bool { return drops(r, telemetry.DroppedStart) == 1 })
	})
	t.Run("message", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		r := c.start()
		c.AwaitEnd(c.Begin(lines(1, testModel))) // so that the model is known
		if err := c.Conn.Publish("fusillade.requests."+streams.Token(testModel)+".none.1", nil); err != nil {
			t.Fatal(err)
		}
		until(t, "the message is counted", func() bool { return drops(r, telemetry.DroppedMessage) == 1 })
	})
	t.Run("answer", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		r := c.start()
		r.report(errors.New("no connection"))
		r.report(nil)
		if n := drops(r, telemetry.DroppedAnswer); n != 1 {
			t.Errorf("%v unsent answers are counted, want 1", n)
		}
	})
}

// A batch whose budget is spent is counted once, however many results follow.
func TestExceededBudgetsAreCounted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) {
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`)
	})
	id := c.Begin(lines(40, testModel))
	c.Exec(`UPDATE batches SET budget_tokens = 1 WHERE id = $1`, [16]byte(id))
	r := c.start()
	c.AwaitEnd(id)
	c.AwaitEnd(c.Begin(lines(3, testModel)))
	until(t, "the batch is counted", func() bool { return testutil.ToFloat64(r.metrics.exceededBudgets) > 0 })
	if n := testutil.ToFloat64(r.metrics.exceededBudgets); n != 1 {
		t.Errorf("%v batches are counted", n)
	}
}

// errForGood is an error that is not worth another try.
var errForGood = fmt.Errorf("for good: %w", batch.ErrBatchFinished)

// refusingStore refuses every start for what it holds.
type refusingStore struct{ store }

func (refusingStore) Start(context.Context, postgres.StartRules, []postgres.Delivery) ([]postgres.Start, error) {
	return nil, errForGood
}

// All that is measured on the way of one request.
func BenchmarkMetrics(b *testing.B) {
	m := newMetrics(prometheus.NewRegistry()).model(testModel)
	e := randomExample(0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.all(e, true)
		}
	})
}
