package kube

import (
	"strings"
	"testing"
)

// The server refuses what it must, so that what it takes says something.
func TestServerRefuses(t *testing.T) {
	h := newHelm(t)
	for _, c := range []struct{ why, object string }{
		{"restricted", `{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}`},
		{"prots", `{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {prots: [], ports: [{port: 80}]}}`},
		{"maxReplicaCount", `{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: a}, spec: {scaleTargetRef: {name: a}, maxReplicaCount: many, triggers: []}}`},
		{"intervall", `{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a}, spec: {selector: {}, endpoints: [{intervall: 1s}]}}`},
	} {
		for _, object := range decode(t, c.object) {
			if err := server.apply(t, h.namespace, object); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v, want to be refused for %s", c.object, err, c.why)
			}
		}
	}
	h.namespace = "default" // where the operator may do nothing
	if err := h.install(values(t, `{}`)); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("installing elsewhere: %v, want it to be forbidden", err)
	}
}
