// Package kubernetes checks what deploy/ has for Kubernetes: the chart with helm's
// own engine and linter, the bases with kustomize, and every object against the Go
// types of Kubernetes, KEDA and the Prometheus operator.
package kubernetes

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

// objects are what would be applied, decoded.
type objects struct {
	t   *testing.T
	all []runtime.Object
}

// decode reads the documents of a manifest. A field that the type of its object
// does not have, or has twice, fails the test.
func decode(t *testing.T, manifest []byte) *objects {
	t.Helper()
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), keda.AddToScheme(known), monitoring.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	o := &objects{t: t}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(manifest)))
	buffer := make([]byte, 1<<20)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		var content map[string]any
		if err := sigsyaml.UnmarshalStrict(buffer[:n], &content); err != nil {
			t.Fatalf("%v in\n%s", err, buffer[:n])
		}
		if len(content) == 0 {
			continue
		}
		object, kind, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			t.Fatalf("%v: %v in\n%s", kind, err, buffer[:n])
		}
		o.all = append(o.all, object)
	}
}

// of returns the objects of one type.
func of[T runtime.Object](o *objects) (found []T) {
	for _, object := range o.all {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// pod is a template of pods with what owns it.
type pod struct {
	name     string
	labels   map[string]string
	selector map[string]string
	replicas *int32
	spec     core.PodSpec
	template core.PodTemplateSpec
}

func (o *objects) pods() (all []pod) {
	for _, d := range of[*apps.Deployment](o) {
		all = append(all, pod{d.Name, d.Spec.Template.Labels, d.Spec.Selector.MatchLabels, d.Spec.Replicas, d.Spec.Template.Spec, d.Spec.Template})
	}
	for _, s := range of[*apps.StatefulSet](o) {
		all = append(all, pod{s.Name, s.Spec.Template.Labels, s.Spec.Selector.MatchLabels, s.Spec.Replicas, s.Spec.Template.Spec, s.Spec.Template})
	}
	for _, j := range of[*batch.Job](o) {
		all = append(all, pod{j.Name, j.Spec.Template.Labels, nil, nil, j.Spec.Template.Spec, j.Spec.Template})
	}
	return all
}

// selected are the pods that have all the labels.
func (o *objects) selected(labels map[string]string) (names []string) {
	for _, p := range o.pods() {
		if matches(labels, p.labels) {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	return names
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

// claims are the names of a stateful set's claim templates.
func (o *objects) claims(name string) (names []string) {
	for _, s := range of[*apps.StatefulSet](o) {
		for _, c := range s.Spec.VolumeClaimTemplates {
			if s.Name == name {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// names are "Kind name" of all objects, sorted.
func (o *objects) names() (names []string) {
	for _, u := range o.unstructured() {
		names = append(names, u.GetKind()+" "+u.GetName())
	}
	slices.Sort(names)
	return names
}

func (o *objects) unstructured() (all []unstructured.Unstructured) {
	for _, object := range o.all {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			o.t.Fatal(err)
		}
		u := unstructured.Unstructured{Object: content}
		u.SetGroupVersionKind(object.GetObjectKind().GroupVersionKind())
		all = append(all, u)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// settings are the variables that docs/configuration.md lists, which a test of
// fusillade holds to the code.
func settings(t *testing.T) map[string]bool {
	t.Helper()
	known := make(map[string]bool)
	for _, name := range regexp.MustCompile(`(FUSILLADE|OTEL)_[A-Z0-9_]+`).FindAllString(read(t, "../../docs/configuration.md"), -1) {
		known[name] = true
	}
	return known
}

// metrics are those that docs/operations.md lists.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	known := make(map[string]bool)
	for _, name := range regexp.MustCompile("(?m)^\\| `(fusillade_[a-z_]+)`").FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1) {
		known[name[1]] = true
	}
	return known
}

// healthPaths are those that the admin server has.
func healthPaths(t *testing.T) (paths []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(`"GET (/[a-z]+)"`).FindAllStringSubmatch(read(t, "../../internal/health/server.go"), -1) {
		paths = append(paths, found[1])
	}
	if len(paths) == 0 {
		t.Fatal("internal/health/server.go serves nothing")
	}
	return paths
}

// variable returns the value of a container's variable.
func variable(c core.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// port returns the number of a port by its name.
func port(c core.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// portOf is the port of an address such as :9090.
func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }
