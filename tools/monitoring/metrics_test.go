// Package monitoring checks deploy/grafana and deploy/alerts.yaml: against
// Grafana's own types, against the metrics that there are and their labels, and by
// Prometheus's engine over what a real run serves.
package monitoring

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// operations is the document whose table of metrics a test of fusillade holds to
// what a running process has registered.
const operations = "../../docs/operations.md"

// metric is what the table says of one.
type metric struct {
	kind   string // counter, gauge or histogram
	labels []string
}

// targetLabels are those that Prometheus gives to what it scrapes.
var targetLabels = []string{"instance", "job"}

// ofProcesses are metrics of every Go program that dashboards use.
var ofProcesses = map[string]metric{
	"process_cpu_seconds_total":     {kind: "counter"},
	"process_resident_memory_bytes": {kind: "gauge"},
	"go_goroutines":                 {kind: "gauge"},
}

type metrics map[string]metric

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func documented(t *testing.T) metrics {
	t.Helper()
	all := maps.Clone(ofProcesses)
	for _, row := range regexp.MustCompile("(?m)^\\| `(fusillade_[a-z_]+)` \\| ([a-z]+) \\| ([a-z_, ]*) \\|").FindAllStringSubmatch(read(t, operations), -1) {
		m := metric{kind: row[2]}
		if row[3] != "" {
			m.labels = strings.Split(row[3], ", ")
		}
		all[row[1]] = m
	}
	if len(all) < 40 {
		t.Fatalf("%s lists %d metrics", operations, len(all))
	}
	return all
}

// series returns what is known of a series by its name: of a histogram the
// buckets, the sum and the count are counters.
func (m metrics) series(name string) (metric, bool) {
	if found, ok := m[name]; ok && found.kind != "histogram" {
		return found, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(name, suffix)
		found := m[base]
		if !ok || found.kind != "histogram" {
			continue
		}
		of := slices.Clone(found.labels)
		if suffix == "_bucket" {
			of = append(of, labels.BucketLabel)
		}
		return metric{kind: "counter", labels: of}, true
	}
	return metric{}, false
}

// ofCounters are functions that only make sense of what counts up, and ofGauges
// those that make none of it.
var (
	ofCounters = []string{"rate", "irate", "increase"}
	ofGauges   = []string{"delta", "deriv", "idelta", "predict_linear"}
)

// check parses a query, and returns the labels of its result, sorted. It refuses
// series and labels that there are not, rates of gauges, counters without a rate,
// and operands whose labels cannot match.
func (m metrics) check(query string) ([]string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return nil, err
	}
	return m.labels(expr, "")
}

// labels of the result of an expression that the function is called with.
func (m metrics) labels(expr parser.Expr, function string) ([]string, error) {
	switch e := expr.(type) {
	case *parser.ParenExpr:
		return m.labels(e.Expr, function)
	case *parser.UnaryExpr:
		return m.labels(e.Expr, function)
	case *parser.MatrixSelector:
		return m.labels(e.VectorSelector, function)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil, nil
	case *parser.VectorSelector:
		return m.selected(e, function)
	case *parser.Call:
		return m.called(e)
	case *parser.AggregateExpr:
		return m.aggregated(e)
	case *parser.BinaryExpr:
		return m.combined(e)
	}
	return nil, fmt.Errorf("%s: the test knows no %T", expr, expr)
}

func (m metrics) selected(e *parser.VectorSelector, function string) ([]string, error) {
	found, ok := m.series(e.Name)
	if !ok {
		return nil, fmt.Errorf("there is no metric %s", e.Name)
	}
	counts := slices.Contains(ofCounters, function)
	switch {
	case found.kind == "counter" && !counts && function != "absent":
		return nil, fmt.Errorf("%s counts up since a start, and is used without a rate", e.Name)
	case found.kind != "counter" && counts:
		return nil, fmt.Errorf("%s(%s), which is a %s", function, e.Name, found.kind)
	case slices.Contains(ofGauges, function) && found.kind != "gauge":
		return nil, fmt.Errorf("%s(%s), which is a %s", function, e.Name, found.kind)
	}
	has := slices.Sorted(slices.Values(slices.Concat(found.labels, targetLabels)))
	for _, matcher := range e.LabelMatchers {
		if matcher.Name != labels.MetricName && !slices.Contains(has, matcher.Name) {
			return nil, fmt.Errorf("%s has no label %s: %v", e.Name, matcher.Name, has)
		}
	}
	return has, nil
}

func (m metrics) called(e *parser.Call) ([]string, error) {
	var of []string
	for _, arg := range e.Args {
		found, err := m.labels(arg, e.Func.Name)
		if err != nil {
			return nil, err
		}
		of = append(of, found...)
	}
	switch e.Func.Name {
	case "absent":
		return nil, nil
	case "histogram_quantile":
		if !slices.Contains(of, labels.BucketLabel) {
			return nil, fmt.Errorf("%s: its buckets have no label le", e)
		}
		return slices.DeleteFunc(of, func(name string) bool { return name == labels.BucketLabel }), nil
	}
	return of, nil
}

func (m metrics) aggregated(e *parser.AggregateExpr) ([]string, error) {
	of, err := m.labels(e.Expr, "")
	if err != nil {
		return nil, err
	}
	for _, name := range e.Grouping {
		if !slices.Contains(of, name) {
			return nil, fmt.Errorf("%s: nothing has a label %s: %v", e, name, of)
		}
	}
	grouped := slices.Sorted(slices.Values(e.Grouping))
	switch {
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
		return of, nil
	case e.Without:
		return slices.DeleteFunc(of, func(name string) bool { return slices.Contains(grouped, name) }), nil
	}
	return grouped, nil
}

func (m metrics) combined(e *parser.BinaryExpr) ([]string, error) {
	left, err := m.labels(e.LHS, "")
	if err != nil {
		return nil, err
	}
	right, err := m.labels(e.RHS, "")
	if err != nil {
		return nil, err
	}
	scalar := func(operand parser.Expr) bool { return operand.Type() == parser.ValueTypeScalar }
	if scalar(e.LHS) {
		return right, nil
	}
	if scalar(e.RHS) || e.Op == parser.LOR || e.VectorMatching != nil && (e.VectorMatching.On || len(e.VectorMatching.MatchingLabels) > 0) {
		return left, nil
	}
	if !slices.Equal(left, right) {
		return nil, fmt.Errorf("%s: no element matches another, of %v and %v", e, left, right)
	}
	return left, nil
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	known := documented(t)
	for query, want := range map[string]string{
		`sum(rate(fusillade_requests_ended_total[5m]))`:                                                           "no metric fusillade_requests_ended_total",
		`fusillade_queue_depth{status="pending"}`:                                                                 "no label status",
		`sum by (owner) (fusillade_queue_depth)`:                                                                  "a label owner",
		`rate(fusillade_queue_depth[5m])`:                                                                         "which is a gauge",
		`sum(fusillade_requests_finished_total)`:                                                                  "without a rate",
		`histogram_quantile(0.5, sum by (model) (rate(fusillade_request_duration_seconds_bucket[5m])))`:           "no label le",
		`rate(fusillade_request_duration_seconds[5m])`:                                                            "no metric",
		`sum by (model) (fusillade_slots_held) / fusillade_model_limit`:                                           "no element matches",
		`sum by (model) (fusillade_slots_held) < on (model) max by (model) (fusillade_model_limits)`:              "no metric",
		`sum(rate(fusillade_claim_duration_seconds_sum{model="m"}[5m]))`:                                          "no label model",
		`max by (model) (fusillade_refusals_held) > 0 unless sum by (model, state) (fusillade_queue_depth{}) > 0`: "no element matches",
	} {
		if _, err := known.check(query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", query, err, want)
		}
	}
}
