package app

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// scripted is an endpoint whose answers follow from the custom id's prefix and
// from how often it was called.
type scripted struct {
	mu    sync.Mutex
	calls map[string]int
	// before is run before a call is answered; nil: nothing is.
	before func(customID string, nth int)
}

// ServeHTTP implements http.Handler.
func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Fusillade-Custom-Id")
	s.mu.Lock()
	nth := s.calls[id]
	s.calls[id]++
	s.mu.Unlock()
	if s.before != nil {
		s.before(id, nth)
	}
	w.Header().Set("Content-Type", "application/json")
	switch prefix, _, _ := strings.Cut(id, "-"); {
	case prefix == "flaky" && nth == 0:
		w.WriteHeader(http.StatusServiceUnavailable)
	case prefix == "doomed":
		w.WriteHeader(http.StatusInternalServerError)
	case prefix == "bad":
		w.WriteHeader(http.StatusBadRequest)
	}
	fmt.Fprint(w, `{"model":"m","choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":3,"completion_tokens":5}}`)
}

// A run with successes, retries, failures, a late batch, a fenced write, lost
// messages and what nobody can read; every one of them is counted, once.
func TestMetricsOfARun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	endpoint := &scripted{calls: make(map[string]int)}
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	c.set(&c.settings.Upstream.URL, server.URL)
	c.set(&c.settings.MaxRetries, "1")
	c.set(&c.settings.StopBeforeDeadline, "none")
	c.settings.ClaimTimeout, c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(1000), ms(6000), ms(500)
	c.settings.DefaultModelConcurrency = 7
	endpoint.before = func(id string, nth int) {
		if id != "fenced-0" || nth > 0 {
			return
		}
		// As if another daemon had taken it over and died: this write is fenced,
		// and the message comes again when its lease has run out.
		if _, err := c.DB.Exec(context.Background(), `UPDATE requests SET daemon_id = gen_random_uuid() WHERE routed_model = 'fenced'`); err != nil {
			t.Error(err)
		}
	}
	all := map[string]int{"good": 9, "flaky": 4, "doomed": 3, "bad": 2, "late": 5, "fenced": 1}
	var batches []batch.ID
	for _, name := range slices.Sorted(maps.Keys(all)) {
		id := c.begin(name, all[name], name)
		batches = append(batches, id)
		if name == "late" {
			if _, err := c.DB.Exec(t.Context(), `UPDATE batches SET expires_at = now() - interval '1 hour' WHERE id = $1`, [16]byte(id)); err != nil {
				t.Fatal(err)
			}
		}
	}

	// Without a consumer the requests are published and wait, then their
	// messages are lost.
	dispatcher := c.start("dispatcher", withAdmin)
	testenv.Eventually(t, "the queue is reported", func() bool {
		s := dispatcher.scrape(t)
		depth := 0.0
		for _, state := range []string{"pending", "claimed", "processing"} {
			depth += s[`fusillade_queue_depth{model="good",state="`+state+`"}`]
		}
		return depth == 9 && s[`fusillade_queue_depth{model="good",state="claimed"}`] > 0
	})
	stream, err := c.JS.Stream(t.Context(), streams.Stream)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "all are published", func() bool {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs == 24
	})
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := `fusillade_stale_requests_reclaimed_total{cause="message_lost"}`
	dispatcher.awaitSample(t, lost, 24)

	consumer := c.start("consumer", withAdmin)
	for subject, message := range map[string]string{
		"fusillade.hints.drained.=zz": "", "fusillade.requests.good." + strings.Repeat("0", 32) + ".1": "no headers",
	} {
		if err := c.Conn.Publish(subject, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	slots, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slots.PutString(t.Context(), "broken", "{"); err != nil {
		t.Fatal(err)
	}
	for _, id := range batches {
		testenv.Eventually(t, "the batch has ended", func() bool { return c.Batch(id).Status.Terminal() })
	}
	dispatcher.awaitSample(t, `fusillade_drops_total{item="hint"}`, 1)
	consumer.awaitSample(t, `fusillade_drops_total{item="message"}`, 1)
	consumer.awaitSample(t, `fusillade_drops_total{item="slots"}`, 1)
	testenv.Eventually(t, "the last result is counted", func() bool {
		return consumer.scrape(t)[`fusillade_requests_finished_total{model="fenced",reason="",status="completed",status_code="200"}`] == 1
	})
	testenv.Eventually(t, "the queue is reported empty", func() bool {
		for sample, v := range dispatcher.scrape(t) {
			if strings.HasPrefix(sample, "fusillade_queue_depth") && v != 0 {
				return false
			}
		}
		return true
	})

	got := consumer.scrape(t)
	checkSamples(t, got, consumerSamples())
	checkSamples(t, dispatcher.scrape(t), dispatcherSamples())
	noIdentity(t, got, batches)
}

// consumerSamples is what the consumer of TestMetricsOfARun has counted.
func consumerSamples() []expectation {
	ended := func(model, status, reason, code string) string {
		return fmt.Sprintf(`requests_finished_total{model=%q,reason=%q,status=%q,status_code=%q}`, model, reason, status, code)
	}
	return []expectation{
		exactly(ended("good", "completed", "", "200"), 9),
		exactly(ended("flaky", "completed", "", "200"), 4),
		exactly(ended("late", "completed", "", "200"), 5),
		exactly(ended("fenced", "completed", "", "200"), 1),
		exactly(ended("doomed", "failed", "retriable_http_status", "500"), 3),
		exactly(ended("bad", "failed", "non_retriable_http_status", "400"), 2),
		exactly(`requests_finished_after_deadline_total{model="late",status="completed"}`, 5),
		exactly(`requests_retried_total{model="flaky"}`, 4),
		exactly(`requests_retried_total{model="doomed"}`, 3),
		exactly(`requests_retried_total{model="good"}`, 0),
		exactly(`retry_denied_total{model="doomed",reason="max_retries"}`, 3),
		exactly(`http_status_retriable_total{model="flaky",status="503"}`, 4),
		exactly(`http_status_retriable_total{model="doomed",status="500"}`, 6),
		exactly(`fenced_writes_total{write="result"}`, 1),
		exactly(`stale_requests_reclaimed_total{cause="takeover"}`, 1),
		about(`redeliveries_total`, 4+3+1, many),
		exactly(`tokens_total{kind="prompt",model="good"}`, 9*3),
		exactly(`tokens_total{kind="completion",model="good"}`, 9*5),
		exactly(`request_duration_seconds_count{model="good",status="completed"}`, 9),
		exactly(`request_duration_seconds_count{model="fenced",status="completed"}`, 2), // both calls were made
		exactly(`request_duration_seconds_count{model="flaky",status="retried"}`, 4),
		exactly(`request_duration_seconds_count{model="doomed",status="retried"}`, 3),
		exactly(`request_duration_seconds_count{model="doomed",status="failed"}`, 3),
		exactly(`retry_attempts_on_success_count{model="flaky"}`, 4),
		exactly(`retry_attempts_on_success_sum{model="flaky"}`, 4),
		exactly(`retry_attempts_on_success_sum{model="good"}`, 0),
		exactly(`deadline_margin_seconds_count`, 24),
		exactly(`deadline_margin_seconds_bucket{le="0"}`, 5),
		exactly(`deadline_margin_seconds_bucket{le="-3600"}`, 5),
		about(`pickup_delay_seconds_count`, 20, 24), // each but what went back unstarted
		about(`start_flush_size_sum`, 24+7+1, many),
		about(`start_flush_size_count`, 1, many),
		about(`start_flush_duration_seconds_count`, 1, many),
		about(`result_flush_size_sum`, 24+7+1, many),
		about(`result_flush_duration_seconds_count`, 1, many),
		exactly(`model_limit{model="good"}`, 7),
		exactly(`requests_in_flight{model="good"}`, 0),
		about(`slots_held{model="good"}`, 0, 7),
		exactly(`drops_total{item="message"}`, 1),
		about(`heartbeat_duration_seconds_count`, 1, many),
		about(`heartbeat_failures_total`, 0, many),
	}
}

// dispatcherSamples is what its dispatcher has counted.
func dispatcherSamples() []expectation {
	return []expectation{
		about(`claim_duration_seconds_count`, 6, many),
		about(`claim_size_count`, 6, many),
		about(`claim_size_sum`, 24+24, many), // again after the loss
		about(`sweep_duration_seconds_count`, 1, many),
		about(`stale_requests_reclaimed_total{cause="message_lost"}`, 24, many),
		exactly(`queue_depth{model="good",state="pending"}`, 0),
		exactly(`oldest_pending_seconds{model="good"}`, 0),
		exactly(`drops_total{item="hint"}`, 1),
		exactly(`rows_purged_total`, 0),
		exactly(`purge_errors_total`, 0),
		about(`heartbeat_duration_seconds_count`, 1, many),
	}
}

var hexID = regexp.MustCompile(`[0-9a-f]{32}`)

// noIdentity wants no label to say which batch, file, request or user.
func noIdentity(t *testing.T, samples map[string]float64, batches []batch.ID) {
	t.Helper()
	words := []string{"tester", "requests.jsonl", "good-", "/v1/"}
	for _, id := range batches {
		words = append(words, id.Token())
	}
	for sample := range samples {
		if hexID.MatchString(sample) || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(sample, w) }) {
			t.Errorf("%s says what it was about", sample)
		}
	}
}

// A daemon that was declared dead ends its calls and begins again in the same
// process, and its metrics go on.
func TestMetricsOutliveADaemon(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "hang"})
	c.settings.StaleDaemonThreshold, c.settings.HeartbeatInterval = ms(10_000), ms(500)
	r := c.start("standalone", withAdmin)
	first := c.begin("first", 3, "m")
	r.awaitSample(t, `fusillade_requests_in_flight{model="m"}`, 3)
	checkSamples(t, r.scrape(t), []expectation{about(`slots_held{model="m"}`, 3, 10)})
	if status, body := r.ask(t, "/readyz"); status != 200 {
		t.Errorf("/readyz of a daemon at work: %d %s", status, body)
	}
	if _, err := c.DB.Exec(t.Context(), `UPDATE daemons SET status = 'dead', stopped_at = now()`); err != nil {
		t.Fatal(err)
	}
	r.awaitSample(t, `fusillade_heartbeat_failures_total`, 1)
	if err := c.endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(first)
	c.awaitEnd(c.begin("second", 4, "m"))
	r.awaitSample(t, `fusillade_requests_finished_total{model="m",reason="",status="completed",status_code="200"}`, 7)
	samples := r.scrape(t)
	checkSamples(t, samples, []expectation{about(`heartbeat_failures_total`, 1, many)})
	// Each of the three was released by the daemon as it ended, taken back from it by
	// the leader, or taken over by the next daemon, whichever came first.
	again := samples[`fusillade_redeliveries_total`] + samples[`fusillade_stale_requests_reclaimed_total{cause="stale_daemon"}`] +
		samples[`fusillade_stale_requests_reclaimed_total{cause="takeover"}`]
	if again < 3 {
		t.Errorf("%v requests were given or taken back, want at least 3", again)
	}
}
