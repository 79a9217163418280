package kubernetes

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	core "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

var update = flag.Bool("update", false, "write what is generated from other files: copies in the chart, the kustomize base")

const chart = "../../deploy/helm/fusillade"

// cases are values that the chart must take, as YAML, by the names of their files.
// tools/kube applies them too.
var cases = func() map[string]string {
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		panic(fmt.Sprintf("no values in %s/ci: %v", chart, err))
	}
	found := make(map[string]string)
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		found[strings.TrimSuffix(filepath.Base(path), "-values.yaml")] = string(raw)
	}
	return found
}()

// refused are values that the schema must refuse, with what it must name.
var refused = map[string]string{
	`{mode: clutser}`:                                                   "mode",
	`{replicas: 3}`:                                                     "replicas",
	`{nats: {url: "http://x"}}`:                                         "url",
	`{nats: {url: "nats://user:secret@x:4222"}}`:                        "url",
	`{upstream: {url: "https://user:secret@example.com"}}`:              "url",
	`{settings: {LOG_LEVEL: debug}}`:                                    "LOG_LEVEL",
	`{settings: {FUSILLADE_ADMIN_ADDR: ":1"}}`:                          "FUSILLADE_ADMIN_ADDR",
	`{settings: {FUSILLADE_ENCRYPTION_KEY: "00"}}`:                      "FUSILLADE_ENCRYPTION_KEY",
	`{drainTimeoutSeconds: "30"}`:                                       "drainTimeoutSeconds",
	`{database: {secret: {name: "", key: url}}}`:                        "name",
	`{api: {auth: everybody}}`:                                          "auth",
	`{keda: {modelServers: [{model: m}]}}`:                              "modelServers",
	`{keda: {enabled: true, prometheus: {enabled: false}}}`:             "keda.natsJetStream.consumers",
	`{keda: {enabled: true, metricsAPI: {enabled: true, models: [m]}}}`: "keda.metricsAPI.secret.name",
	`{keda: {enabled: true, metricsAPI: {enabled: true, models: [m], url: "https://user:secret@example.com"}}}`:                                                                                                             "url",
	`{api: {enabled: false}, keda: {enabled: true, metricsAPI: {enabled: true, models: [m], secret: {name: s, key: k}}}}`:                                                                                                   "keda.metricsAPI.url",
	`{keda: {enabled: true, prometheus: {enabled: false}, natsJetStream: {enabled: true, consumers: [{stream: REQUESTS, consumer: m}]}, modelServers: [{model: m, targetName: v, maxReplicas: 1, requestsPerReplica: 1}]}}`: "keda.modelServers",
	`{image: {digest: latest}}`:                               "digest",
	`{consumer: {settings: {FUSILLADE_UPSTREAM_API_KEY: x}}}`: "FUSILLADE_UPSTREAM_API_KEY",
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	given := make(map[string]any)
	if err := sigsyaml.UnmarshalStrict([]byte(text), &given); err != nil {
		t.Fatal(err)
	}
	return given
}

// render is `helm template`.
func render(t *testing.T, release, text string) ([]byte, error) {
	t.Helper()
	loaded, err := loader.Load(chart)
	if err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(loaded, values(t, text), common.ReleaseOptions{Name: release, Namespace: "batches", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(loaded, all)
	if err != nil {
		return nil, err
	}
	var manifest strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			manifest.WriteString("---\n" + files[name] + "\n")
		}
	}
	return []byte(manifest.String()), nil
}

func TestChart(t *testing.T) {
	t.Parallel()
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, m := range lint.RunAll(chart, values(t, text), "batches").Messages {
				if m.Severity > support.InfoSev {
					t.Errorf("lint: %v", m)
				}
			}
			for _, release := range []string{"fusillade", "a-release-with-a-name-that-is-quite-long-indeed"} {
				manifest, err := render(t, release, text)
				if err != nil {
					t.Fatal(err)
				}
				o := decode(t, manifest)
				o.check()
				names := o.names()
				if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
					t.Errorf("two objects have one name: %v", names)
				}
			}
		})
	}
}

func TestChartRefusesValues(t *testing.T) {
	t.Parallel()
	for text, want := range refused {
		if _, err := render(t, "fusillade", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %s", text, err, want)
		}
	}
}

// Each role has its own credentials where it is given them.
func TestChartRoleSecrets(t *testing.T) {
	t.Parallel()
	manifest, err := render(t, "fusillade", cases["all"])
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]map[string]string)
	for _, p := range decode(t, manifest).pods() {
		got[p.name] = make(map[string]string)
		for _, v := range p.spec.Volumes {
			if v.Secret != nil {
				key := ""
				if len(v.Secret.Items) > 0 {
					key = " " + v.Secret.Items[0].Key
				}
				got[p.name][v.Name] = v.Secret.SecretName + key
			}
		}
	}
	want := map[string]map[string]string{
		"fusillade-migrations": {"database": "db-owner uri", "database-tls": "db-tls"},
		"fusillade-dispatcher": {"database": "db-d uri", "database-tls": "db-tls", "nats": "nats creds", "nats-tls": "nats-tls", "encryption": "encryption key"},
		"fusillade-api":        {"database": "db-a uri", "database-tls": "db-tls", "nats": "nats-a creds", "nats-tls": "nats-tls", "encryption": "encryption key"},
		"fusillade-consumer": {
			"database": "db-c other", "database-tls": "db-tls", "nats": "nats creds", "nats-tls": "nats-tls", "encryption": "encryption key",
			"upstream": "endpoint api-key", "upstream-ca": "authority",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

// What is monitored is all pods but the migrations', and the rules are those of
// deploy/alerts.yaml.
func TestChartMonitoring(t *testing.T) {
	t.Parallel()
	manifest, err := render(t, "fusillade", cases["all"])
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, manifest)
	for _, m := range of[*monitoring.ServiceMonitor](o) {
		for _, s := range of[*core.Service](o) {
			if !matches(m.Spec.Selector.MatchLabels, s.Labels) {
				continue
			}
			if got, want := o.selected(s.Spec.Selector), []string{"fusillade-api", "fusillade-consumer", "fusillade-dispatcher"}; !slices.Equal(got, want) {
				t.Errorf("%v are monitored, want %v", got, want)
			}
			if s.Spec.Ports[0].Name != m.Spec.Endpoints[0].Port || !slices.Contains(healthPaths(t), m.Spec.Endpoints[0].Path) {
				t.Errorf("the monitor asks for %s of port %s", m.Spec.Endpoints[0].Path, m.Spec.Endpoints[0].Port)
			}
		}
	}
	var want monitoring.PrometheusRuleSpec
	if err := sigsyaml.UnmarshalStrict([]byte(read(t, "../../deploy/alerts.yaml")), &want); err != nil {
		t.Fatal(err)
	}
	rules := of[*monitoring.PrometheusRule](o)
	if len(rules) != 1 || !cmp.Equal(want, rules[0].Spec) {
		t.Errorf("rules (-want +got):\n%s", cmp.Diff(want, rules))
	}
}

// A chart holds nothing from outside its directory, so it has copies.
func TestChartCopies(t *testing.T) {
	t.Parallel()
	copies := map[string]string{"../../deploy/alerts.yaml": chart + "/files/alerts.yaml"}
	dashboards, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range dashboards {
		copies[from] = chart + "/files/dashboards/" + filepath.Base(from)
	}
	for from, to := range copies {
		want := read(t, from)
		if *update {
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != want {
			t.Errorf("%s is not as %s: go test -C tools/kubernetes . -update", to, from)
		}
	}
}
