package kube

import (
	"testing"

	refused "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const kustomize = "../../deploy/kustomize"

func build(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), kustomize+"/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(manifest))
}

// The base is applied, twice, and the overlay upon it. A job cannot be changed, and is
// deleted before, as the overlay says.
func TestKustomize(t *testing.T) {
	const namespace = "fusillade" // the base's
	if err := server.namespace(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"base", "base", "example"} {
		for _, object := range build(t, dir) {
			err := server.apply(t, namespace, object)
			if dir == "example" && object.GetKind() == "Job" {
				if !refused.IsInvalid(err) {
					t.Errorf("a job was changed: %v", err)
				}
				if err := server.remove(t.Context(), t, namespace, object); err != nil {
					t.Fatal(err)
				}
				err = server.apply(t, namespace, object)
			}
			if err != nil {
				t.Errorf("%s: %s %s: %v", dir, object.GetKind(), object.GetName(), lines(err))
			}
		}
		for _, object := range build(t, dir) {
			server.admits(t, namespace, object)
		}
	}
	for _, object := range build(t, "example") {
		if err := server.remove(t.Context(), t, namespace, object); err != nil {
			t.Error(err)
		}
		server.gone(t, namespace, object)
	}
}
