package kubernetes

import (
	"os"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// check holds the objects to what Fusillade needs of them.
func (o *objects) check() {
	o.t.Helper()
	for _, p := range o.pods() {
		o.checkSecurity(p)
		o.checkSpec(p)
		for _, c := range p.spec.Containers {
			o.checkContainer(p, c)
		}
	}
	o.checkSelectors()
	o.checkLabels()
	o.checkHooks()
}

// checkHooks wants hooks to be deleted at their end: Helm does not when it uninstalls.
func (o *objects) checkHooks() {
	o.t.Helper()
	for _, u := range o.unstructured() {
		annotations := u.GetAnnotations()
		policy := strings.Split(annotations["helm.sh/hook-delete-policy"], ",")
		if annotations["helm.sh/hook"] != "" && (!slices.Contains(policy, "hook-succeeded") || !slices.Contains(policy, "before-hook-creation")) {
			o.t.Errorf("%s %s is a hook that stays: %v", u.GetKind(), u.GetName(), policy)
		}
	}
}

// checkLabels wants names and labels that an API server takes.
func (o *objects) checkLabels() {
	o.t.Helper()
	for _, u := range o.unstructured() {
		if wrong := validation.IsDNS1123Subdomain(u.GetName()); len(wrong) > 0 {
			o.t.Errorf("%s %s: its name: %v", u.GetKind(), u.GetName(), wrong)
		}
		for name, value := range u.GetLabels() {
			if wrong := append(validation.IsQualifiedName(name), validation.IsValidLabelValue(value)...); len(wrong) > 0 {
				o.t.Errorf("%s %s: its label %s is %q: %v", u.GetKind(), u.GetName(), name, value, wrong)
			}
		}
	}
}

// checkSecurity wants pods that the namespace label
// pod-security.kubernetes.io/enforce: restricted admits, and more.
func (o *objects) checkSecurity(p pod) {
	o.t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, &p.template.ObjectMeta, &p.spec) {
		if !result.Allowed {
			o.t.Errorf("%s is not restricted: %s %s", p.name, result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
		o.t.Errorf("%s has a token of its service account", p.name)
	}
	if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
		o.t.Errorf("%s has variables of services", p.name)
	}
	for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			o.t.Errorf("%s: %s can write to its root file system", p.name, c.Name)
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			o.t.Errorf("%s: %s has no request or no limit of memory", p.name, c.Name)
		}
	}
}

func (o *objects) checkSpec(p pod) {
	o.t.Helper()
	volumes := make(map[string]bool)
	for _, v := range p.spec.Volumes {
		volumes[v.Name] = true
		if v.Secret != nil && v.Secret.SecretName == "" {
			o.t.Errorf("%s: volume %s is of no secret", p.name, v.Name)
		}
	}
	for _, s := range o.claims(p.name) {
		volumes[s] = true
	}
	mounted := make(map[string]bool)
	for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
			if !volumes[m.Name] {
				o.t.Errorf("%s: %s mounts %s, which is no volume", p.name, c.Name, m.Name)
			}
		}
	}
	for name := range volumes {
		if !mounted[name] {
			o.t.Errorf("%s: nothing mounts %s", p.name, name)
		}
	}
	if p.selector != nil && !matches(p.selector, p.labels) {
		o.t.Errorf("%s: its selector %v does not select its pods %v", p.name, p.selector, p.labels)
	}
}

// secretVariables must not hold a secret in the manifest.
var secretVariables = []string{"FUSILLADE_ENCRYPTION_KEY", "FUSILLADE_UPSTREAM_API_KEY", "FUSILLADE_UPSTREAM_HEADERS", "FUSILLADE_MODEL_UPSTREAMS"}

func (o *objects) checkContainer(p pod, c core.Container) {
	o.t.Helper()
	known := settings(o.t)
	seen := make(map[string]bool)
	for _, v := range c.Env {
		if !known[v.Name] {
			o.t.Errorf("%s: no setting is called %s", p.name, v.Name)
		}
		if seen[v.Name] {
			o.t.Errorf("%s: %s is set twice", p.name, v.Name)
		}
		seen[v.Name] = true
		if slices.Contains(secretVariables, v.Name) || strings.Contains(v.Value, "@") && !strings.Contains(v.Value, "fusillade@127.0.0.1") {
			o.t.Errorf("%s: %s=%s may hold a secret", p.name, v.Name, v.Value)
		}
		if file, ok := strings.CutPrefix(v.Value, "/etc/fusillade/"); ok {
			mount, _, _ := strings.Cut(file, "/")
			if !slices.ContainsFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == "/etc/fusillade/"+mount && m.ReadOnly }) {
				o.t.Errorf("%s: %s is %s, and nothing is mounted there", p.name, v.Name, v.Value)
			}
		}
	}
	if len(c.Command) != 1 {
		o.t.Errorf("%s: its command is %q", p.name, c.Command)
	} else if _, err := os.Stat("../../cmd/" + c.Command[0]); err != nil {
		o.t.Errorf("%s: the image has no %s", p.name, c.Command[0])
	}
	if p.selector == nil { // a job, which serves nothing
		return
	}
	if got := portOf(variable(c, "FUSILLADE_ADMIN_ADDR")); got != strconv.Itoa(int(port(c, "admin"))) {
		o.t.Errorf("%s: FUSILLADE_ADMIN_ADDR has port %s, the container %d", p.name, got, port(c, "admin"))
	}
	if listen := variable(c, "FUSILLADE_LISTEN_ADDR"); listen != "" && portOf(listen) != strconv.Itoa(int(port(c, "http"))) {
		o.t.Errorf("%s: FUSILLADE_LISTEN_ADDR is %s, the container's port %d", p.name, listen, port(c, "http"))
	}
	paths := healthPaths(o.t)
	for name, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || !slices.Contains(paths, probe.HTTPGet.Path) || port(c, probe.HTTPGet.Port.StrVal) == 0 {
			o.t.Errorf("%s: the %s probe asks nothing that is served: %v", p.name, name, probe)
		}
	}
	if c.LivenessProbe.HTTPGet.Path == "/readyz" {
		o.t.Errorf("%s is restarted while Postgres is away", p.name)
	}
	o.checkGrace(p, c)
}

// checkGrace wants time for calls in flight, for the last results (10 s) and for
// the pause before the stop.
func (o *objects) checkGrace(p pod, c core.Container) {
	o.t.Helper()
	drain, err := strconv.ParseInt(variable(c, "FUSILLADE_DRAIN_TIMEOUT_MS"), 10, 64)
	if err != nil {
		o.t.Errorf("%s: %v", p.name, err)
	}
	needed := drain/1000 + 15
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		needed += c.Lifecycle.PreStop.Sleep.Seconds
	}
	if got := p.spec.TerminationGracePeriodSeconds; got == nil || *got < needed {
		o.t.Errorf("%s is killed after %v s, want at least %d", p.name, got, needed)
	}
}

// checkSelectors wants each service, budget and network policy to select pods.
func (o *objects) checkSelectors() {
	o.t.Helper()
	for _, s := range of[*core.Service](o) {
		names := o.selected(s.Spec.Selector)
		if len(names) == 0 {
			o.t.Errorf("service %s selects nothing: %v", s.Name, s.Spec.Selector)
		}
		for _, p := range o.pods() {
			for _, target := range s.Spec.Ports {
				if slices.Contains(names, p.name) && port(p.spec.Containers[0], target.TargetPort.StrVal) == 0 {
					o.t.Errorf("service %s: %s has no port %s", s.Name, p.name, target.TargetPort.StrVal)
				}
			}
		}
	}
	for _, b := range of[*disruption.PodDisruptionBudget](o) {
		if names := o.selected(b.Spec.Selector.MatchLabels); !slices.Equal(names, []string{b.Name}) {
			o.t.Errorf("budget %s selects %v", b.Name, names)
		}
	}
	covered := make(map[string]bool)
	for _, n := range of[*networking.NetworkPolicy](o) {
		names := o.selected(n.Spec.PodSelector.MatchLabels)
		if len(names) != 1 || len(n.Spec.PolicyTypes) != 2 {
			o.t.Errorf("network policy %s selects %v, for %v", n.Name, names, n.Spec.PolicyTypes)
		}
		for _, name := range names {
			covered[name] = true
		}
		for _, rule := range n.Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				o.t.Errorf("network policy %s lets everybody in", n.Name)
			}
		}
		for _, rule := range n.Spec.Egress {
			if len(rule.Ports) == 0 {
				o.t.Errorf("network policy %s lets everything out", n.Name)
			}
		}
	}
	for _, p := range o.pods() {
		if len(covered) > 0 && !covered[p.name] {
			o.t.Errorf("no network policy covers %s", p.name)
		}
	}
}
