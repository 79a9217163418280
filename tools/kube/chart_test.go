package kube

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const chartDir = "../../deploy/helm/fusillade"

const (
	releaseName = "fusillade"
	helmTimeout = 2 * time.Minute
)

// cases are the values that the chart must take, by their names.
func cases(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in %s/ci: %v", chartDir, err)
	}
	found := make(map[string]map[string]any)
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(filepath.Base(path), "-values.yaml")] = values(t, string(raw))
	}
	return found
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	given := make(map[string]any)
	if err := yaml.UnmarshalStrict([]byte(text), &given); err != nil {
		t.Fatal(err)
	}
	return given
}

// helm acts in a namespace of its own, as a user who may do nothing elsewhere.
type helm struct {
	t         *testing.T
	namespace string
	cfg       *action.Configuration
	chart     chart.Charter
}

func newHelm(t *testing.T) *helm {
	t.Helper()
	h := &helm{t: t, namespace: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), cfg: action.NewConfiguration()}
	if err := server.namespace(t.Context(), h.namespace); err != nil {
		t.Fatal(err)
	}
	h.cfg.SetLogger(slog.DiscardHandler) // its errors are returned too
	flags := genericclioptions.NewConfigFlags(false)
	none, user, cache := os.DevNull, operator, t.TempDir()
	host, bearer, authority := server.admin.Host, token, server.admin.CAFile
	flags.KubeConfig, flags.CacheDir, flags.Namespace = &none, &cache, &h.namespace
	flags.APIServer, flags.BearerToken, flags.CAFile, flags.Impersonate = &host, &bearer, &authority, &user
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS, c.WarningHandler = -1, warnings{t}
		return c
	}
	if err := h.cfg.Init(flags, h.namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.chart, err = loader.LoadDir(chartDir); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *helm) install(given map[string]any) error {
	install := action.NewInstall(h.cfg)
	install.ReleaseName, install.Namespace, install.Timeout, install.WaitStrategy = releaseName, h.namespace, helmTimeout, kube.HookOnlyStrategy
	_, err := install.RunWithContext(h.t.Context(), h.chart, given)
	return err
}

func (h *helm) upgrade(given map[string]any) error {
	upgrade := action.NewUpgrade(h.cfg)
	upgrade.Namespace, upgrade.Timeout, upgrade.WaitStrategy, upgrade.ResetValues = h.namespace, helmTimeout, kube.HookOnlyStrategy, true
	_, err := upgrade.RunWithContext(h.t.Context(), releaseName, h.chart, given)
	return err
}

func (h *helm) rollback(revision int) error {
	rollback := action.NewRollback(h.cfg)
	rollback.Version, rollback.Timeout, rollback.WaitStrategy = revision, helmTimeout, kube.HookOnlyStrategy
	return rollback.Run(releaseName)
}

func (h *helm) uninstall() error {
	uninstall := action.NewUninstall(h.cfg)
	uninstall.Timeout, uninstall.WaitStrategy = helmTimeout, kube.HookOnlyStrategy
	_, err := uninstall.Run(releaseName)
	return err
}

// manifest is what is installed, with the hooks.
func (h *helm) manifest() string {
	h.t.Helper()
	got, err := action.NewGet(h.cfg).Run(releaseName)
	if err != nil {
		h.t.Fatal(err)
	}
	installed, ok := got.(*release.Release)
	if !ok {
		h.t.Fatalf("the release is a %T", got)
	}
	text := installed.Manifest
	for _, hook := range installed.Hooks {
		text += "\n---\n" + hook.Manifest
	}
	return text
}

// Every rendering of the chart is taken, admits its pods, is taken once more, and
// leaves nothing behind.
func TestChart(t *testing.T) {
	all := cases(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			h := newHelm(t)
			if err := h.install(all[name]); err != nil {
				t.Fatalf("installing: %v", lines(err))
			}
			manifest := decode(t, h.manifest())
			for _, object := range manifest {
				server.admits(t, h.namespace, object)
			}
			if err := h.upgrade(all[name]); err != nil {
				t.Errorf("the same once more: %v", lines(err))
			}
			if err := h.uninstall(); err != nil {
				t.Errorf("uninstalling: %v", lines(err))
			}
			for _, object := range manifest {
				server.gone(t, h.namespace, object)
			}
		})
	}
}

// A release goes from all values to all others, and back to the first.
func TestUpgrades(t *testing.T) {
	all := cases(t)
	names := slices.Sorted(maps.Keys(all))
	h := newHelm(t)
	if err := h.install(all[names[0]]); err != nil {
		t.Fatal(lines(err))
	}
	for _, name := range append(names[1:], names[0], "defaults") {
		if err := h.upgrade(all[name]); err != nil {
			t.Errorf("upgrading to %s: %v", name, lines(err))
		}
	}
	if err := h.rollback(1); err != nil {
		t.Errorf("rolling back: %v", lines(err))
	}
	if err := h.uninstall(); err != nil {
		t.Error(lines(err))
	}
}

// What the chart cannot change is refused by the server, and docs/deployment.md says
// what to do about it.
func TestStorageOfATrialStays(t *testing.T) {
	h := newHelm(t)
	if err := h.install(values(t, `{mode: trial}`)); err != nil {
		t.Fatal(lines(err))
	}
	err := h.upgrade(values(t, `{mode: trial, trial: {storage: {size: 20Gi}}}`))
	if err == nil || !strings.Contains(err.Error(), "spec.volumeClaimTemplates") {
		t.Errorf("other storage: %v, want to be told that it cannot be changed", err)
	}
}

// The number of consumers is the chart's until KEDA scales them, and KEDA's from
// then on.
func TestReplicas(t *testing.T) {
	h := newHelm(t)
	want := func(when string, n int32) {
		t.Helper()
		got, err := server.clients.AppsV1().Deployments(h.namespace).Get(t.Context(), "fusillade-consumer", meta.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *got.Spec.Replicas != n {
			t.Errorf("%s there are %d consumers, want %d", when, *got.Spec.Replicas, n)
		}
	}
	step := func(when string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", when, lines(err))
		}
	}
	step("installing", h.install(values(t, `{}`)))
	want("at first", 3)
	step("enabling KEDA", h.upgrade(values(t, `{keda: {enabled: true}}`)))
	want("until KEDA scales", 1)
	step("scaling", server.scale(t.Context(), h.namespace, 7))
	step("another image", h.upgrade(values(t, `{keda: {enabled: true}, image: {tag: "2"}}`)))
	want("after an upgrade", 7)
	step("disabling KEDA", h.upgrade(values(t, `{consumer: {replicas: 4}}`)))
	want("without KEDA", 4)
}

// scale does what the autoscaler does for KEDA.
func (c *cluster) scale(ctx context.Context, namespace string, replicas int32) error {
	deployments := c.clients.AppsV1().Deployments(namespace)
	now, err := deployments.GetScale(ctx, "fusillade-consumer", meta.GetOptions{})
	if err != nil {
		return err
	}
	now.Spec = autoscaling.ScaleSpec{Replicas: replicas}
	_, err = deployments.UpdateScale(ctx, "fusillade-consumer", now, meta.UpdateOptions{FieldManager: "kube-controller-manager"})
	return err
}
