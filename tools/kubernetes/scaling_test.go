package kubernetes

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
)

// parameter is one that a scaler of KEDA knows, by KEDA's own schema.
type parameter struct {
	Name     string   `json:"name"`
	Optional bool     `json:"optional"`
	Default  string   `json:"default"`
	Values   []string `json:"allowedValue"`
	Metadata bool     `json:"metadataVariableReadable"`
	Auth     bool     `json:"triggerAuthenticationVariableReadable"`
}

// scalers are the parameters of KEDA's scalers, by the type of a trigger.
func scalers(t *testing.T) map[string]map[string]parameter {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Scalers []struct {
			Type       string      `json:"type"`
			Parameters []parameter `json:"parameters"`
		} `json:"scalers"`
	}
	if err := json.Unmarshal([]byte(read(t, strings.TrimSpace(string(dir))+"/schema/generated/scalers-schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	known := make(map[string]map[string]parameter)
	for _, s := range schema.Scalers {
		known[s.Type] = make(map[string]parameter)
		for _, p := range s.Parameters {
			known[s.Type][p.Name] = p
		}
	}
	return known
}

// Each trigger has the parameters that KEDA's scaler wants, and no other, and none
// that holds a replica where there is nothing to do.
func TestTriggers(t *testing.T) {
	t.Parallel()
	known := scalers(t)
	seen := make(map[string]bool)
	for name, text := range cases {
		manifest, err := render(t, "fusillade", text)
		if err != nil {
			t.Fatal(err)
		}
		o := decode(t, manifest)
		for _, s := range of[*keda.ScaledObject](o) {
			if wrong := validation.IsDNS1123Label("keda-hpa-" + s.Name); len(wrong) > 0 {
				t.Errorf("%s, %s: KEDA's autoscaler cannot have that name: %v", name, s.Name, wrong)
			}
			for _, trigger := range s.Spec.Triggers {
				seen[trigger.Type] = true
				checkTrigger(t, name+", "+s.Name, trigger, known[trigger.Type], o)
			}
		}
	}
	for _, kind := range []string{"prometheus", "metrics-api", "nats-jetstream"} {
		if !seen[kind] {
			t.Errorf("no case has a trigger of type %s", kind)
		}
	}
}

func checkTrigger(t *testing.T, where string, trigger keda.ScaleTriggers, known map[string]parameter, o *objects) {
	t.Helper()
	given := make(map[string]bool)
	for name, value := range trigger.Metadata {
		given[name] = true
		if p, ok := known[name]; !ok || !p.Metadata || len(p.Values) > 0 && !slices.Contains(p.Values, value) {
			t.Errorf("%s: %s does not take %s=%s", where, trigger.Type, name, value)
		}
		if strings.HasPrefix(name, "activation") && value != "0" {
			t.Errorf("%s: with up to %s requests there is no replica", where, value)
		}
	}
	if ref := trigger.AuthenticationRef; ref != nil {
		for _, a := range of[*keda.TriggerAuthentication](o) {
			for _, secret := range a.Spec.SecretTargetRef {
				given[secret.Parameter] = a.Name == ref.Name
				if !known[secret.Parameter].Auth || secret.Name == "" || secret.Key == "" {
					t.Errorf("%s: %s does not take %s of a secret", where, trigger.Type, secret.Parameter)
				}
			}
		}
	}
	if trigger.Metadata["authMode"] == "bearer" && !given["token"] {
		t.Errorf("%s: there is no token", where)
	}
	for name, p := range known {
		if !p.Optional && p.Default == "" && !given[name] {
			t.Errorf("%s: %s lacks %s", where, trigger.Type, name)
		}
	}
}

// Consumers are scaled by KEDA alone, to zero and back, by metrics that there are.
func TestChartScaling(t *testing.T) {
	t.Parallel()
	manifest, err := render(t, "fusillade", cases["all"])
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, manifest)
	known := metrics(t)
	scaled := of[*keda.ScaledObject](o)
	if len(scaled) != 2 {
		t.Fatalf("%d objects are scaled, want consumers and a model's server", len(scaled))
	}
	for _, s := range scaled {
		if *s.Spec.MinReplicaCount != 0 || *s.Spec.MaxReplicaCount < 1 {
			t.Errorf("%s: from %d to %d", s.Name, *s.Spec.MinReplicaCount, *s.Spec.MaxReplicaCount)
		}
		for _, trigger := range s.Spec.Triggers {
			for _, name := range regexp.MustCompile(`fusillade_[a-z_]+`).FindAllString(trigger.Metadata["query"], -1) {
				if !known[name] {
					t.Errorf("%s: there is no metric %s", s.Name, name)
				}
			}
		}
	}
	consumers := scaled[0].Spec
	if consumers.ScaleTargetRef.Name != "fusillade-consumer" || len(consumers.Triggers) != 6 {
		t.Errorf("%s is scaled by %d triggers", consumers.ScaleTargetRef.Name, len(consumers.Triggers))
	}
	if got, want := consumers.Triggers[1].Metadata["query"], `sum(fusillade_queue_depth{namespace="batches",state=~"pending|claimed|processing",model="a\"b\\c"})`; got != want {
		t.Errorf("query of a model with an odd name: %s, want %s", got, want)
	}
	for _, p := range o.pods() {
		if p.name == "fusillade-consumer" && p.replicas != nil {
			t.Error("an upgrade would set the number of consumers, which KEDA sets")
		}
	}
}

// What KEDA asks of the API is a route that it has, a number of its answer, at the
// port of its Service; and KEDA is let in.
func TestChartScalingByTheAPI(t *testing.T) {
	t.Parallel()
	manifest, err := render(t, "fusillade", cases["all"])
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, manifest)
	var openapi struct {
		Paths      map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Type string `json:"type"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(read(t, "../../internal/api/openapi.json")), &openapi); err != nil {
		t.Fatal(err)
	}
	const route = "/admin/v1/demand/"
	if openapi.Paths[route+"{id}"] == nil {
		t.Fatalf("the API has no %s", route)
	}
	var models []string
	for _, trigger := range of[*keda.ScaledObject](o)[0].Spec.Triggers {
		if trigger.Type != "metrics-api" {
			continue
		}
		at, err := url.Parse(trigger.Metadata["url"])
		if err != nil {
			t.Fatal(err)
		}
		model, ok := strings.CutPrefix(at.Path, route)
		if !ok {
			t.Errorf("it asks for %s", at)
		}
		models = append(models, model)
		if of := openapi.Components.Schemas["ModelDemand"].Properties[trigger.Metadata["valueLocation"]]; of.Type != "integer" {
			t.Errorf("%s of the answer is %q", trigger.Metadata["valueLocation"], of.Type)
		}
		service, _, _ := strings.Cut(at.Hostname(), ".")
		if !slices.ContainsFunc(of[*core.Service](o), func(s *core.Service) bool {
			return s.Name == service && at.Hostname() == s.Name+"."+s.Namespace+".svc" && strconv.Itoa(int(s.Spec.Ports[0].Port)) == at.Port()
		}) {
			t.Errorf("there is no service at %s", at.Host)
		}
	}
	if want := []string{"llama3:70b", "org/a model"}; !slices.Equal(models, want) {
		t.Errorf("it asks for %q, want %q", models, want)
	}
	for _, n := range of[*networking.NetworkPolicy](o) {
		in := 0
		for _, rule := range n.Spec.Ingress {
			for _, peer := range rule.From {
				if peer.NamespaceSelector != nil && peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == "keda" {
					in++
				}
			}
		}
		if want := map[string]int{"fusillade-api": 1}[n.Name]; in != want {
			t.Errorf("%s lets KEDA in by %d rules, want %d", n.Name, in, want)
		}
	}
}
