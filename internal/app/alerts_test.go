package app

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var metricName = regexp.MustCompile(`fusillade_[a-z_]+`)

// The alert rules ask for metrics that there are, and each is explained.
func TestAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n++
			if !strings.Contains(string(document), "\n| `"+r.Alert+"` |") {
				t.Errorf("%s is not explained in docs/operations.md", r.Alert)
			}
			if r.Annotations["summary"] == "" {
				t.Errorf("%s has no summary", r.Alert)
			}
			names := metricName.FindAllString(r.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s asks for none of our metrics", r.Alert)
			}
			for _, name := range names {
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					name = strings.TrimSuffix(name, suffix)
				}
				if !strings.Contains(string(document), "\n| `"+name+"` |") {
					t.Errorf("%s asks for %s, which there is not", r.Alert, name)
				}
			}
		}
	}
	if n == 0 {
		t.Error("no alerts")
	}
}
