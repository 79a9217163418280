package kubernetes

import (
	"os"
	"regexp"
	"testing"

	apps "k8s.io/api/apps/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const kustomize = "../../deploy/kustomize"

// helmOnly are the lines of the chart's objects that say that Helm owns them.
var helmOnly = regexp.MustCompile(`(?m)^ *(helm\.sh/chart|helm\.sh/hook|helm\.sh/hook-delete-policy|helm\.sh/hook-weight|app\.kubernetes\.io/managed-by): .*\n`)

// empty is what they leave of an object's annotations.
var empty = regexp.MustCompile(`(?m)^  annotations:\n(?:spec:)`)

// The base is the chart with its defaults.
func TestKustomizeBase(t *testing.T) {
	t.Parallel()
	manifest, err := render(t, "fusillade", "")
	if err != nil {
		t.Fatal(err)
	}
	const path = kustomize + "/base/fusillade.yaml"
	want := empty.ReplaceAll(helmOnly.ReplaceAll(manifest, nil), []byte("spec:"))
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, path); got != string(want) {
		t.Errorf("%s is not as the chart: go test -C tools/kubernetes . -update", path)
	}
}

// Base and overlay are built by Kustomize itself, and held to the same as the chart.
func TestKustomizeBuilds(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"base", "example"} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), kustomize+"/"+dir)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := built.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		o := decode(t, manifest)
		o.check()
		deployments := of[*apps.Deployment](o)
		if len(deployments) != 3 {
			t.Errorf("%s: %d deployments", dir, len(deployments))
		}
		for _, d := range deployments {
			if d.Namespace != "fusillade" {
				t.Errorf("%s: %s is in namespace %q", dir, d.Name, d.Namespace)
			}
			if dir != "example" {
				continue
			}
			c := d.Spec.Template.Spec.Containers[0]
			if c.Image != "registry.example.com/fusillade:0.1.0" || variable(c, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY") == "" {
				t.Errorf("%s: %s has the image %s", dir, d.Name, c.Image)
			}
		}
	}
}
