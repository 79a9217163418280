package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	core "k8s.io/api/core/v1"
	refused "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// decode reads the objects of a manifest.
func decode(t *testing.T, manifest string) (all []*unstructured.Unstructured) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(manifest)), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
}

// of are the objects of that kind and namespace at the server.
func (c *cluster) of(t *testing.T, namespace string, object *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	groups, err := restmapper.GetAPIGroupResources(c.clients.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	kind := object.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		t.Fatal(err)
	}
	return c.objects.Resource(mapping.Resource).Namespace(namespace)
}

// apply applies an object as `kubectl apply --server-side --validate=strict` does.
func (c *cluster) apply(t *testing.T, namespace string, object *unstructured.Unstructured) error {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.of(t, namespace, object).Patch(t.Context(), object.GetName(), types.ApplyPatchType, raw,
		meta.PatchOptions{FieldManager: "kubectl", FieldValidation: meta.FieldValidationStrict})
	return err
}

// admits wants the server to admit a pod of the object's template, if it has one.
func (c *cluster) admits(t *testing.T, namespace string, object *unstructured.Unstructured) {
	t.Helper()
	template, found, err := unstructured.NestedMap(object.Object, "spec", "template")
	if err != nil || !found {
		return
	}
	var pod core.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
		t.Fatal(err)
	}
	pod.Name = object.GetName() + "-0"
	if claims, _, _ := unstructured.NestedSlice(object.Object, "spec", "volumeClaimTemplates"); len(claims) > 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, core.Volume{Name: "data", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}})
	}
	_, err = c.clients.CoreV1().Pods(namespace).Create(t.Context(), &pod, meta.CreateOptions{
		DryRun: []string{meta.DryRunAll}, FieldValidation: meta.FieldValidationStrict,
	})
	if err != nil {
		t.Errorf("a pod of %s %s: %v", object.GetKind(), object.GetName(), lines(err))
	}
}

// gone wants the object not to be there.
func (c *cluster) gone(t *testing.T, namespace string, object *unstructured.Unstructured) {
	t.Helper()
	_, err := c.of(t, namespace, object).Get(t.Context(), object.GetName(), meta.GetOptions{})
	if !refused.IsNotFound(err) {
		t.Errorf("%s %s is still there: %v", object.GetKind(), object.GetName(), err)
	}
}

func (c *cluster) remove(ctx context.Context, t *testing.T, namespace string, object *unstructured.Unstructured) error {
	t.Helper()
	background := meta.DeletePropagationBackground
	return c.of(t, namespace, object).Delete(ctx, object.GetName(), meta.DeleteOptions{PropagationPolicy: &background})
}
