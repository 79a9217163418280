package consume

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/internal/upstream"
)

// deadlineMargins are seconds: from a day late to a week to spare.
var deadlineMargins = []float64{-86400, -3600, -600, -60, 0, 60, 600, 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400}

var retryCounts = []float64{0, 1, 2, 3, 5, 10, 20, 50, 100, 500}

// statusRetried is the outcome of a call whose request goes on.
const statusRetried = "retried"

// metrics is what a consumer measures. It outlives the consumer: the next one
// in the process with the same registerer goes on with it.
type metrics struct {
	completed, late, retried, denied, retriable *prometheus.CounterVec
	fenced, reclaimed, drops, tokens            *prometheus.CounterVec
	storeFailures, holds                        *prometheus.CounterVec
	redelivered, exceededBudgets                prometheus.Counter
	callTime, firstToken, successRetries        *prometheus.HistogramVec
	margin, pickup                              prometheus.Histogram
	startSize, startTime, resultSize, finishing prometheus.Histogram

	models telemetry.Models

	mu   sync.Mutex
	open map[batch.Model]int // pools of the model; more than one only for a moment
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		open: make(map[batch.Model]int),
		completed: telemetry.Counters(reg, "requests_finished_total",
			"Requests that finished with a result of this daemon, by how; status_code is empty where there was no response.",
			"model", "status", "reason", "status_code"),
		late: telemetry.Counters(reg, "requests_finished_after_deadline_total",
			"Those of requests_finished_total whose result came after the batch's deadline.", "model", "status"),
		retried: telemetry.Counters(reg, "requests_retried_total", "Failed attempts that are repeated.", "model"),
		denied: telemetry.Counters(reg, "retry_denied_total",
			"Failures worth a retry that got none: max_retries or deadline.", "model", "reason"),
		retriable: telemetry.Counters(reg, "http_status_retriable_total",
			"Responses with a status that is retried, by that status.", "model", "status"),
		fenced:    telemetry.FencedWrites(reg),
		reclaimed: telemetry.Reclaimed(reg),
		drops:     telemetry.Drops(reg),
		holds: telemetry.Counters(reg, "holds_total",
			"Pauses that endpoints asked this daemon for with Retry-After, by the status of the response.", "model", "status"),
		storeFailures: telemetry.Counters(reg, "store_failures_total",
			"Writes that Postgres did not do, by write (start, result) and class (unavailable, content, suspect, refused); they are tried again.",
			"write", "class"),
		tokens: telemetry.Counters(reg, "tokens_total",
			"Tokens of finished requests, as the endpoint counted them: prompt or completion.", "model", "kind"),
		redelivered: telemetry.Counter(reg, "redeliveries_total",
			"Messages received that the broker had delivered before: after a backoff, released, or of a lease that ran out."),
		exceededBudgets: telemetry.Counter(reg, "budgets_exceeded_total",
			"Batches whose budget was spent, with requests left, by results of this daemon."),
		callTime: telemetry.Histograms(reg, "request_duration_seconds",
			"Time of a call, from connect to last byte; status is how the request went on: completed, failed or retried.",
			telemetry.CallSeconds, "model", "status"),
		firstToken: telemetry.Histograms(reg, "time_to_first_token_seconds",
			"Time of a call from connect to the first part of a streamed answer.", telemetry.CallSeconds, "model"),
		successRetries: telemetry.Histograms(reg, "retry_attempts_on_success",
			"Retries that a request took before it completed.", retryCounts, "model"),
		margin: telemetry.Histogram(reg, "deadline_margin_seconds",
			"Time left to the batch's deadline as a request ends; negative: it came late.", deadlineMargins),
		pickup: telemetry.Histogram(reg, "pickup_delay_seconds",
			"Time from the publish of a request to its first call, by the clocks of broker and consumer.", telemetry.CallSeconds),
		startSize: telemetry.Histogram(reg, "start_flush_size", "Requests started by one statement.", telemetry.Sizes),
		startTime: telemetry.Histogram(reg, "start_flush_duration_seconds", "Time of a statement that starts requests.", telemetry.WriteSeconds),
		resultSize: telemetry.Histogram(reg, "result_flush_size",
			"Results, retries and releases written by one transaction.", telemetry.Sizes),
		finishing: telemetry.Histogram(reg, "result_flush_duration_seconds",
			"Time of a transaction that writes results.", telemetry.WriteSeconds),
	}
}

func (m *metrics) dropped(item string, n int) { m.drops.WithLabelValues(item).Add(float64(n)) }

func (m *metrics) storeFailed(write string, class postgres.Class) {
	m.storeFailures.WithLabelValues(write, class.String()).Inc()
}

// modelMetrics is the part of one model. What each request needs is looked up
// once, here.
type modelMetrics struct {
	*metrics
	label string

	ok200, retries                   prometheus.Counter
	promptTokens, completionTokens   prometheus.Counter
	successRetries, firstTokens      prometheus.Observer
	okTime, failedTime, retriedTimes prometheus.Observer
}

// model is for a pool that is opened; forget follows when it is retired.
func (m *metrics) model(name batch.Model) *modelMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[name]++
	label := m.models.Label(name)
	return &modelMetrics{
		metrics: m, label: label,
		ok200:            m.completed.WithLabelValues(label, string(batch.Completed), "", "200"),
		retries:          m.retried.WithLabelValues(label),
		promptTokens:     m.tokens.WithLabelValues(label, "prompt"),
		completionTokens: m.tokens.WithLabelValues(label, "completion"),
		successRetries:   m.successRetries.WithLabelValues(label),
		firstTokens:      m.firstToken.WithLabelValues(label),
		okTime:           m.callTime.WithLabelValues(label, string(batch.Completed)),
		failedTime:       m.callTime.WithLabelValues(label, string(batch.Failed)),
		retriedTimes:     m.callTime.WithLabelValues(label, statusRetried),
	}
}

// forget removes what is reported of a model, whose pool was retired: it has had no
// work for so long that it was read many times since it changed. Of a model that
// comes back it is counted from 0.
func (m *metrics) forget(name batch.Model) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[name]--; m.open[name] > 0 {
		return
	}
	delete(m.open, name)
	label, ok := m.models.Forget(name)
	if !ok {
		return
	}
	for _, vec := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{
		m.completed, m.late, m.retried, m.denied, m.retriable, m.tokens, m.holds, m.callTime, m.firstToken, m.successRetries,
	} {
		vec.DeletePartialMatch(prometheus.Labels{"model": label})
	}
}

// received counts a message that came.
func (m *modelMetrics) received(t *task) {
	if t.delivery.Number > 1 {
		m.redelivered.Inc()
	}
}

// placed counts a hold that a call has earned.
func (m *modelMetrics) placed(status int) { m.holds.WithLabelValues(m.label, statusCode(status)).Inc() }

// calling notes that the call of a task begins.
func (m *modelMetrics) calling(t *task) {
	if t.delivery.Number == 1 {
		m.pickup.Observe(max(time.Since(t.published), 0).Seconds())
	}
}

// called notes a call that was made and what was decided about it.
func (m *modelMetrics) called(o upstream.Outcome, d decision) {
	if o.Reason == batch.RetriableHTTPStatus {
		m.retriable.WithLabelValues(m.label, statusCode(o.Response.StatusCode)).Inc()
	}
	if o.Elapsed == 0 { // no call was made
		return
	}
	if o.FirstToken > 0 {
		m.firstTokens.Observe(o.FirstToken.Seconds())
	}
	switch d.kind {
	case complete:
		observeTraced(m.okTime, o.Elapsed.Seconds(), d.task.trace)
	case fail:
		observeTraced(m.failedTime, o.Elapsed.Seconds(), d.task.trace)
	case retry:
		observeTraced(m.retriedTimes, o.Elapsed.Seconds(), d.task.trace)
	case release, abandon: // cut off: its time says nothing of the endpoint
	}
}

// written counts what a committed write did. A write whose first answer was
// lost counts as fenced when it is repeated; the batch's own counters are exact
// then too.
func (m *modelMetrics) written(d *decision, written bool) {
	switch {
	case !written:
		m.fenced.WithLabelValues(fencedWrite(d.kind)).Inc()
	case d.kind == retry:
		m.retries.Inc()
	case d.kind == complete || d.kind == fail:
		m.finished(d)
	}
}

func fencedWrite(k kind) string {
	switch k {
	case complete, fail:
		return telemetry.FencedResult
	case retry:
		return telemetry.FencedRetry
	}
	return telemetry.FencedRelease
}

func (m *modelMetrics) finished(d *decision) {
	e := &d.completion
	if e.State == batch.Completed && e.Reason == "" && e.StatusCode == 200 {
		m.ok200.Inc()
	} else {
		m.completed.WithLabelValues(m.label, string(e.State), string(e.Reason), statusCode(e.StatusCode)).Inc()
	}
	if e.State == batch.Completed {
		m.successRetries.Observe(float64(e.Attempts - 1))
	}
	if d.denied == batch.DeniedMaxRetries || d.denied == batch.DeniedDeadline {
		m.denied.WithLabelValues(m.label, string(d.denied)).Inc()
	}
	if n := e.Usage.PromptTokens; n > 0 {
		m.promptTokens.Add(float64(n))
	}
	if n := e.Usage.CompletionTokens; n > 0 {
		m.completionTokens.Add(float64(n))
	}
	if n := d.task.start.Takeovers; n > 0 {
		m.reclaimed.WithLabelValues(telemetry.Takeover).Add(float64(n))
	}
	margin := time.Until(d.task.deadline)
	m.margin.Observe(margin.Seconds())
	if margin < 0 {
		m.late.WithLabelValues(m.label, string(e.State)).Inc()
	}
}

// statusCode is the label of a response's status: one of a few hundred.
func statusCode(code int) string {
	switch {
	case code == 0:
		return ""
	case code < 100 || code > 599:
		return "other"
	}
	return strconv.Itoa(code)
}
