package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/kedacore/keda/v2/version"                                       // its definitions
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1" // its types
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-tools/pkg/crd"
	crdmarkers "sigs.k8s.io/controller-tools/pkg/crd/markers"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
	"sigs.k8s.io/yaml"
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// operator may do in its namespaces what the role admin may, and all with the objects
// of KEDA and of the Prometheus operator. Who installs Fusillade needs no more.
const operator = "operator"

// admin are the roles of which a controller makes the role admin.
var admin = []string{"system:aggregate-to-view", "system:aggregate-to-edit", "system:aggregate-to-admin"}

// prepare defines the objects of KEDA and of the Prometheus operator, and makes what
// the values name and the chart does not make.
func (c *cluster) prepare(ctx context.Context) error {
	known, err := customResources(ctx)
	if err != nil {
		return err
	}
	for _, definition := range known {
		if _, err := c.objects.Resource(definitions).Create(ctx, definition, meta.CreateOptions{}); err != nil {
			return fmt.Errorf("defining %s: %w", definition.GetName(), err)
		}
	}
	for _, definition := range known {
		if err := c.awaitEstablished(ctx, definition.GetName()); err != nil {
			return err
		}
	}
	high := &scheduling.PriorityClass{ObjectMeta: meta.ObjectMeta{Name: "high"}, Value: 1000}
	if _, err := c.clients.SchedulingV1().PriorityClasses().Create(ctx, high, meta.CreateOptions{}); err != nil {
		return err
	}
	role := &rbac.ClusterRole{ObjectMeta: meta.ObjectMeta{Name: operator}, Rules: []rbac.PolicyRule{
		{APIGroups: []string{"keda.sh"}, Resources: []string{"scaledobjects", "triggerauthentications"}, Verbs: []string{"*"}},
		{APIGroups: []string{"monitoring.coreos.com"}, Resources: []string{"servicemonitors", "prometheusrules"}, Verbs: []string{"*"}},
	}}
	_, err = c.clients.RbacV1().ClusterRoles().Create(ctx, role, meta.CreateOptions{})
	return err
}

// customResources are the definitions that KEDA ships, and those that the Prometheus
// operator generates from its types.
func customResources(ctx context.Context) (found []*unstructured.Unstructured, err error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for KEDA: %w", err)
	}
	for _, name := range []string{"scaledobjects", "triggerauthentications"} {
		raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/bases/keda.sh_"+name+".yaml"))
		if err != nil {
			return nil, err
		}
		var definition unstructured.Unstructured
		if err := yaml.Unmarshal(raw, &definition.Object); err != nil {
			return nil, err
		}
		found = append(found, &definition)
	}
	generated, err := monitoringResources()
	return append(found, generated...), err
}

func monitoringResources() (found []*unstructured.Unstructured, err error) {
	roots, err := loader.LoadRoots("github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1")
	if err != nil {
		return nil, err
	}
	registry := &markers.Registry{}
	if err := crdmarkers.Register(registry); err != nil {
		return nil, err
	}
	parser := &crd.Parser{Collector: &markers.Collector{Registry: registry}, Checker: &loader.TypeChecker{}, GenerateEmbeddedObjectMeta: true}
	crd.AddKnownTypes(parser)
	for _, root := range roots {
		parser.NeedPackage(root)
	}
	short := 0 // without descriptions
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule"} {
		group := schema.GroupKind{Group: "monitoring.coreos.com", Kind: kind}
		parser.NeedCRDFor(group, &short)
		definition := parser.CustomResourceDefinitions[group]
		crd.FixTopLevelMetadata(definition)
		definition.Status = extensions.CustomResourceDefinitionStatus{}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&definition)
		if err != nil {
			return nil, err
		}
		found = append(found, &unstructured.Unstructured{Object: content})
	}
	return found, nil
}

func (c *cluster) awaitEstablished(ctx context.Context, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, started, true, func(ctx context.Context) (bool, error) {
		got, err := c.objects.Resource(definitions).Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return false, err
		}
		conditions, _, err := unstructured.NestedSlice(got.Object, "status", "conditions")
		for _, condition := range conditions {
			if fields, ok := condition.(map[string]any); ok && fields["type"] == "Established" && fields["status"] == "True" {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s to be served: %w", name, err)
	}
	return nil
}

// namespace makes one that admits restricted pods only, where the operator may work.
func (c *cluster) namespace(ctx context.Context, name string) error {
	space := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
		"pod-security.kubernetes.io/warn":    "restricted", // for what makes pods
	}}}
	if _, err := c.clients.CoreV1().Namespaces().Create(ctx, space, meta.CreateOptions{}); err != nil {
		return err
	}
	account := &core.ServiceAccount{ObjectMeta: meta.ObjectMeta{Name: "default"}}
	if _, err := c.clients.CoreV1().ServiceAccounts(name).Create(ctx, account, meta.CreateOptions{}); err != nil {
		return err
	}
	for _, role := range append(slices.Clone(admin), operator) {
		binding := &rbac.RoleBinding{
			ObjectMeta: meta.ObjectMeta{Name: strings.ReplaceAll(role, ":", "-")},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbac.Subject{{Kind: rbac.UserKind, APIGroup: rbac.GroupName, Name: operator}},
		}
		if _, err := c.clients.RbacV1().RoleBindings(name).Create(ctx, binding, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// finishJobs is the controller that Helm waits for: each job has succeeded at once.
func (c *cluster) finishJobs(ctx context.Context) {
	_ = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		jobs, err := c.clients.BatchV1().Jobs(meta.NamespaceAll).List(ctx, everything)
		if err != nil {
			return false, nil
		}
		for i := range jobs.Items {
			job := &jobs.Items[i]
			if job.Status.CompletionTime != nil {
				continue
			}
			now := meta.Now()
			job.Status = batch.JobStatus{StartTime: &now, CompletionTime: &now, Succeeded: 1, Conditions: []batch.JobCondition{
				{Type: batch.JobSuccessCriteriaMet, Status: core.ConditionTrue, LastTransitionTime: now},
				{Type: batch.JobComplete, Status: core.ConditionTrue, LastTransitionTime: now},
			}}
			if _, err := c.clients.BatchV1().Jobs(job.Namespace).UpdateStatus(ctx, job, meta.UpdateOptions{}); err != nil {
				fmt.Fprintln(os.Stderr, "finishing a job:", err)
			}
		}
		return false, nil
	})
}

// writeKey makes a key that signs tokens of service accounts, which nobody uses.
func writeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600)
}
