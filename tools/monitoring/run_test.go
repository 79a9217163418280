package monitoring

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// mayBeEmpty are metrics without a value in a run in which nothing breaks, nobody
// cancels or deletes, and every batch is in time. Panels of these alone may be empty.
var mayBeEmpty = []string{
	"fusillade_batches_cancelled_total", "fusillade_batches_held", "fusillade_budget_canceled_requests_total", "fusillade_budgets_exceeded_total", "fusillade_drops_total", "fusillade_endpoint_ejections_total",
	"fusillade_fenced_writes_total", "fusillade_heartbeat_failures_total", "fusillade_hold_remaining_seconds", "fusillade_holds_total",
	"fusillade_purge_errors_total", "fusillade_redeliveries_total", "fusillade_refusals_held", "fusillade_requests_finished_after_deadline_total",
	"fusillade_requests_routed_to_escalation_total", "fusillade_retry_denied_total", "fusillade_rows_purged_total",
	"fusillade_stale_requests_reclaimed_total", "fusillade_store_failures_total", "fusillade_webhook_deliveries_total",
}

// process is a program of fusillade that runs until the test ends.
type process struct {
	t   *testing.T
	out string // the file with what it says
}

func start(t *testing.T, program string, env []string, args ...string) process {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = t.TempDir()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was told to end
		out.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", args, read(t, out.Name()))
		}
	})
	return process{t, out.Name()}
}

// awaitURL returns the URL after the text, once the process has said it.
func (p process) awaitURL(text string) string {
	p.t.Helper()
	said := regexp.MustCompile(text + ` (http://[0-9.:]+)`)
	for range 1200 {
		if found := said.FindStringSubmatch(read(p.t, p.out)); found != nil {
			return found[1]
		}
		select {
		case <-p.t.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.t.Fatalf("it never said %q", text)
	return ""
}

// scrape adds what a process serves to the database, as if it was scraped then.
func scrape(t *testing.T, d *database, from string, at time.Time) map[string]*dto.MetricFamily {
	t.Helper()
	response, err := http.Get(from + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(at.UnixNano())}, slices.Collect(maps.Values(families))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		l := labels.NewBuilder(labels.FromStrings("job", "fusillade", "instance", "one"))
		for name, value := range s.Metric {
			l.Set(string(name), string(value))
		}
		d.add(l.Labels(), at, float64(s.Value))
	}
	return families
}

// run has a real process do real work, and returns what Prometheus would know of
// it, with the families of the last scrape.
func run(t *testing.T) (d *database, last time.Time, served map[string]*dto.MetricFamily) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fusillade")
	if out, err := exec.Command("go", "build", "-C", "../..", "-buildvcs=false", "-o", program, "./cmd/fusillade").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mock := start(t, program, nil, "mock", "--latency=uniform:20ms-200ms", "--errors=503=0.05,400=0.1")
	endpoint := mock.awaitURL("listening on")

	// Postgres may run as another user, who must reach its data.
	data, err := os.MkdirTemp("", "fusillade-monitoring-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	serve := start(t, program, []string{
		"FUSILLADE_ADMIN_ADDR=127.0.0.1:0", "FUSILLADE_LISTEN_ADDR=127.0.0.1:0", "FUSILLADE_UPSTREAM_STREAM=on",
		"FUSILLADE_MODEL_CONCURRENCY_LIMITS=auto=auto:4-40,fixed=20", "FUSILLADE_MODEL_RATE_LIMITS=fixed=1000rpm/1000000tpm",
	}, "serve", "--upstream="+endpoint+" "+endpoint+"/v1", "--data-dir="+filepath.Join(data, "d"))
	api := serve.awaitURL("listening on")
	admin := serve.awaitURL("health and metrics:")

	input := filepath.Join(t.TempDir(), "requests.jsonl")
	var requests strings.Builder
	for i := range 4000 {
		name := []string{"auto", "fixed"}[i%2]
		fmt.Fprintf(&requests, `{"custom_id":"r-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":"Hello."}]}}`+"\n", i, name)
	}
	if err := os.WriteFile(input, []byte(requests.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program, "batches", "create", input, "--server="+api).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	// Scraped every quarter of a minute of the engine's time, while there is work:
	// until every metric that should have a value has one, a while longer.
	d, at := newDatabase(), time.Now()
	missing := func() (names []string) {
		for name, m := range documented(t) {
			if served[name] == nil && !slices.Contains(mayBeEmpty, name) {
				names = append(names, name+" "+m.kind)
			}
		}
		return names
	}
	for more := 3; more > 0; at = at.Add(15 * time.Second) {
		served = scrape(t, d, admin, at)
		last = at
		if len(missing()) == 0 {
			more--
		}
		select {
		case <-ctx.Done():
			t.Fatalf("these have no value: %v", missing())
		case <-time.After(time.Second):
		}
	}
	return d, last, served
}

// Every query of a dashboard finds something in what a process serves that works,
// but those of what did not happen.
func TestDashboardsOfARun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs fusillade serve")
	}
	d, last, served := run(t)
	for name, m := range documented(t) {
		if family := served[name]; family != nil && !strings.EqualFold(m.kind, family.GetType().String()) {
			t.Errorf("%s is a %v, and %s says %s", name, family.GetType(), operations, m.kind)
		}
	}
	full, empty := 0, 0
	for _, f := range load(t) {
		for _, p := range f.panels {
			for _, q := range targets(t, p) {
				if q.Expr == "" {
					continue
				}
				if len(d.query(t, expand(q.Expr), last)) > 0 {
					full++
					continue
				}
				empty++
				if !slices.ContainsFunc(mayBeEmpty, func(name string) bool { return strings.Contains(q.Expr, name) }) {
					t.Errorf("%s, %s: nothing answers %s", f.name, *p.Title, q.Expr)
				}
			}
		}
	}
	for _, r := range alerts(t) {
		if fires := d.query(t, r.Expr, last); len(fires) > 0 && r.For == 0 {
			t.Errorf("%s fires in a run in which nothing is wrong: %v", r.Alert, fires)
		}
	}
	t.Logf("%d queries found something; %d found nothing, of what did not happen", full, empty)
}
