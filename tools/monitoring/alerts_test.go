package monitoring

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	alertsPath = "../../deploy/alerts.yaml"
	testsPath  = "../../deploy/alerts_test.yaml"
)

// rule is an alert, as Prometheus reads it.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         model.Duration    `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func alerts(t *testing.T) (all []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, alertsPath)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there is no alert")
	}
	return all
}

var alertLabel = regexp.MustCompile(`\$labels\.(\w+)`)

// Each alert is of metrics and labels that there are, its summary names labels that
// it has, and docs/operations.md says what it means and what to look at.
func TestAlerts(t *testing.T) {
	t.Parallel()
	known := documented(t)
	var names []string
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		has, err := known.check(r.Expr)
		if err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		for _, name := range alertLabel.FindAllStringSubmatch(r.Annotations["summary"], -1) {
			if !slices.Contains(has, name[1]) {
				t.Errorf("%s: its summary names %s, and it has %v", r.Alert, name[1], has)
			}
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if !strings.HasSuffix(r.Annotations["summary"], ".") {
			t.Errorf("%s: the summary %q is no sentence", r.Alert, r.Annotations["summary"])
		}
	}
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(Fusillade[A-Za-z]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(read(t, operations), -1) {
		explained = append(explained, row[1])
	}
	slices.Sort(names)
	slices.Sort(explained)
	if !slices.Equal(names, explained) {
		t.Errorf("%s explains %v, and %s has %v", operations, explained, alertsPath, names)
	}
}

// expected is an alert that fires.
type expected struct {
	Labels      map[string]string `json:"exp_labels"`
	Annotations map[string]string `json:"exp_annotations"`
}

// alertTests is the form of `promtool test rules`.
type alertTests struct {
	RuleFiles []string       `json:"rule_files"`
	Interval  model.Duration `json:"evaluation_interval"`
	Tests     []struct {
		Name     string         `json:"name"`
		Interval model.Duration `json:"interval"`
		Series   []struct {
			Series string `json:"series"`
			Values string `json:"values"`
		} `json:"input_series"`
		Alerts []struct {
			At    model.Duration `json:"eval_time"`
			Alert string         `json:"alertname"`
			Fire  []expected     `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// Each alert fires when it should and not else, as deploy/alerts_test.yaml says.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	var file alertTests
	if err := yaml.UnmarshalStrict([]byte(read(t, testsPath)), &file); err != nil {
		t.Fatal(err)
	}
	rules := make(map[string]rule)
	for _, r := range alerts(t) {
		rules[r.Alert] = r
	}
	fires := make(map[string]bool)
	start := time.Unix(0, 0)
	for _, test := range file.Tests {
		d := newDatabase()
		for _, s := range test.Series {
			l, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(s.Series + " " + s.Values)
			if err != nil {
				t.Fatalf("%s: %v", s.Series, err)
			}
			for i, v := range values {
				if !v.Omitted {
					d.add(l, start.Add(time.Duration(i)*time.Duration(test.Interval)), v.Value)
				}
			}
		}
		for _, want := range test.Alerts {
			r, ok := rules[want.Alert]
			if !ok {
				t.Errorf("%s: there is no alert %s", test.Name, want.Alert)
				continue
			}
			got := firing(t, d, r, time.Duration(file.Interval), start, start.Add(time.Duration(want.At)))
			if !sameAlerts(got, want.Fire) {
				t.Errorf("%s: %s fires %v at %v, want %v", test.Name, want.Alert, got, want.At, want.Fire)
			}
			if len(want.Fire) > 0 {
				fires[want.Alert] = true
			}
		}
	}
	for name := range rules {
		if !fires[name] {
			t.Errorf("%s fires in no test of %s", name, testsPath)
		}
	}
}

// firing evaluates a rule at each interval up to the end, as Prometheus does, and
// returns what fires then.
func firing(t *testing.T, d *database, r rule, interval time.Duration, start, end time.Time) (alerts []expected) {
	t.Helper()
	since := make(map[string]time.Time)
	for at := start; !at.After(end); at = at.Add(interval) {
		alerts = nil
		active := make(map[string]time.Time)
		for _, sample := range d.query(t, r.Expr, at) {
			key := sample.Metric.String()
			began, ok := since[key]
			if !ok {
				began = at
			}
			active[key] = began
			if at.Sub(began) >= time.Duration(r.For) {
				alerts = append(alerts, alertOf(t, r, sample.Metric))
			}
		}
		since = active
	}
	return alerts
}

func alertOf(t *testing.T, r rule, l labels.Labels) expected {
	t.Helper()
	a := expected{Labels: l.DropReserved(func(name string) bool { return name == labels.MetricName }).Map(), Annotations: make(map[string]string)}
	for name, text := range r.Annotations {
		var filled strings.Builder
		if err := template.Must(template.New(name).Parse("{{ $labels := . }}"+text)).Execute(&filled, a.Labels); err != nil {
			t.Fatal(err)
		}
		a.Annotations[name] = filled.String()
	}
	for name, value := range r.Labels {
		a.Labels[name] = value
	}
	return a
}

// sameAlerts compares without regard to order.
func sameAlerts(got, want []expected) bool {
	text := func(alerts []expected) (lines []string) {
		for _, a := range alerts {
			lines = append(lines, fmt.Sprint(a.Labels, a.Annotations))
		}
		slices.Sort(lines)
		return lines
	}
	return slices.Equal(text(got), text(want))
}
