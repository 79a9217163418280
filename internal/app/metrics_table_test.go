package app

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

var update = flag.Bool("update", false, "write the table of metrics into docs/operations.md")

// described is a metric as the registry knows it, whether or not it has values.
type described struct{ help, labels string }

// Desc has no accessors.
var descText = regexp.MustCompile(`fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{([^}]*)\}`)

func describe(t *testing.T, reg prometheus.Collector) map[string]described {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Describe(descs)
	}()
	all := make(map[string]described)
	for d := range descs {
		parts := descText.FindStringSubmatch(d.String())
		if parts == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		var name string
		var m described
		if _, err := fmt.Sscanf(parts[1], "%q", &name); err != nil {
			t.Errorf("%s: %v", d, err)
		}
		if _, err := fmt.Sscanf(parts[2], "%q", &m.help); err != nil {
			t.Errorf("%s: %v", d, err)
		}
		m.labels = strings.ReplaceAll(parts[3], ",", ", ")
		if strings.HasPrefix(name, "fusillade_") {
			all[name] = m
		}
	}
	return all
}

// types of the metrics that have values now.
func types(t *testing.T, reg prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, f := range families {
		out[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	return out
}

// standaloneRegistry is the registry of a process that has everything, the API
// too, and has done some work.
func standaloneRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	c := newCluster(t, mock.Settings{Latency: "hang"})
	c.set(&c.settings.Upstream.URL, c.settings.Upstream.URL.Reveal()+" "+c.settings.Upstream.URL.Reveal()+"/v1") // the same, as two that share the calls
	c.set(&c.settings.ModelRateLimits, "m=1000000rpm/1000000000tpm")
	c.set(&c.settings.ModelConcurrencyLimits, "m=auto:4-9")
	r := c.start("standalone", withAdmin)
	if _, err := APIConfig(Resources{Store: c.Store, Conn: c.Conn, Telemetry: r.observed, Log: testenv.Logger(t)}, new(config.API)); err != nil {
		t.Fatal(err)
	}
	id := c.begin("r", 3, "m")
	testenv.Eventually(t, "every part reports", func() bool {
		s := r.scrape(t)
		_, queue := s[`fusillade_queue_depth{model="m",state="pending"}`]
		_, limit := s[`fusillade_model_limit{model="m"}`]
		_, auto := s[`fusillade_limit_throughput{model="m",unit="calls"}`]
		return queue && limit && auto
	})
	if err := c.endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(id)
	r.awaitSample(t, `fusillade_requests_finished_total{model="m",reason="",status="completed",status_code="200"}`, 3)
	return r.observed.registry
}

const tableBegin, tableEnd = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"

// The table of metrics in docs/operations.md is the one that the code has.
func TestMetricsTable(t *testing.T) {
	t.Parallel()
	const path = "../../docs/operations.md"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(document), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of metrics", path)
	}
	reg := standaloneRegistry(t)
	metrics, kinds := describe(t, reg), types(t, reg)
	var table strings.Builder
	table.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		kind := kinds[name]
		if kind == "" && strings.HasSuffix(name, "_total") {
			kind = "counter" // that has not counted yet
		}
		if kind == "" && name == "fusillade_refusals_held" {
			kind = "gauge" // nothing is held
		}
		if kind == "" {
			t.Errorf("%s has no value and no known type", name)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, kind, metrics[name].labels, metrics[name].help)
	}
	current := before + tableBegin + table.String() + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(current, string(document)); diff != "" {
		t.Errorf("docs/operations.md is out of date; run make readme (-want +got):\n%s", diff)
	}
}

// What the specification names is there, under exactly that name and with
// exactly those labels: dashboards depend on it.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"requests_finished_total":                "model, status, reason, status_code",
		"requests_finished_after_deadline_total": "model, status",
		"requests_retried_total":                 "model",
		"retry_denied_total":                     "model, reason",
		"http_status_retriable_total":            "model, status",
		"requests_routed_to_escalation_total":    "original_model, escalation_model",
		"stale_requests_reclaimed_total":         "cause",
		"batches_cancelled_total":                "",
		"heartbeat_failures_total":               "",
		"rows_purged_total":                      "",
		"purge_errors_total":                     "",
		"requests_in_flight":                     "model",
		"claim_duration_seconds":                 "",
		"claim_size":                             "",
		"time_to_first_token_seconds":            "model",
		"request_duration_seconds":               "model, status",
		"retry_attempts_on_success":              "model",
		"heartbeat_duration_seconds":             "",
		"sweep_duration_seconds":                 "",
		"webhook_deliveries_total":               "outcome",
		"model_limit":                            "model",
		"limit_decisions_total":                  "model, cause",
		"limit_throughput":                       "model, unit",
		"slots_held":                             "model",
		"queue_depth":                            "model, state",
		"oldest_pending_seconds":                 "model",
		"deadline_margin_seconds":                "",
		"pickup_delay_seconds":                   "",
		"start_flush_size":                       "",
		"start_flush_duration_seconds":           "",
		"result_flush_size":                      "",
		"result_flush_duration_seconds":          "",
		"fenced_writes_total":                    "write",
		"redeliveries_total":                     "",
		"tokens_total":                           "model, kind",
		"build_info":                             "version, go_version",
		"drops_total":                            "item",
		"spans_dropped_total":                    "",
		"holds_total":                            "model, status",
		"hold_remaining_seconds":                 "model",
		"refusals_held":                          "model, cause",
		"batches_held":                           "model",
		"endpoint_requests_in_flight":            "host",
		"endpoint_ejected":                       "host",
		"endpoint_ejections_total":               "host",
		"rate_limit":                             "model, unit",
		"rate_used":                              "model, unit",
		"rate_waiting":                           "model",
		"store_failures_total":                   "write, class",
		"budgets_exceeded_total":                 "",
		"budget_canceled_requests_total":         "",
		"budget_limit":                           "unit",
		"budget_used":                            "unit",
	}
	reg := standaloneRegistry(t)
	got := make(map[string]string)
	for name, m := range describe(t, reg) {
		got[strings.TrimPrefix(name, "fusillade_")] = m.labels
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
