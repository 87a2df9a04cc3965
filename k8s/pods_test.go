package k8s_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// securityFindings returns what a workload's pods may do without need, and which
// safeguards they lack.
func securityFindings(w workload) (found []string) {
	want := func(good bool, format string, args ...any) {
		if !good {
			found = append(found, w.name+": "+fmt.Sprintf(format, args...))
		}
	}
	spec := w.pod.Spec
	want(isSet(spec.AutomountServiceAccountToken, false),
		"its pods don't call the cluster's API and get no token for it: set automountServiceAccountToken: false")
	want(isSet(spec.EnableServiceLinks, false),
		"variables of other Services would be in its environment: set enableServiceLinks: false")
	want(!spec.HostNetwork && !spec.HostPID && !spec.HostIPC,
		"it shares a namespace (network, PID or IPC) of the host")
	s := spec.SecurityContext
	want(s != nil && isSet(s.RunAsNonRoot, true) && s.RunAsUser != nil && *s.RunAsUser > 0,
		"it runs as root: runAsNonRoot, and a runAsUser by number, which runAsNonRoot needs")
	want(s != nil && s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"seccompProfile: RuntimeDefault is missing")
	for _, v := range spec.Volumes {
		want(v.HostPath == nil, "volume %s is of the host", v.Name)
		want(v.Secret == nil || v.Secret.DefaultMode != nil && *v.Secret.DefaultMode&0o007 == 0,
			"every user of the pod can read volume %s: set defaultMode: 0440", v.Name)
	}
	for _, c := range w.containers() {
		s := c.SecurityContext
		want(s != nil && isSet(s.AllowPrivilegeEscalation, false) && isSet(s.ReadOnlyRootFilesystem, true) &&
			s.Privileged == nil,
			"%s: allowPrivilegeEscalation: false and readOnlyRootFilesystem: true", c.Name)
		want(s != nil && s.Capabilities != nil && slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) &&
			len(s.Capabilities.Add) == 0, "%s: capabilities: {drop: [ALL]}", c.Name)
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			want(!c.Resources.Requests.Name(r, resource.DecimalSI).IsZero() &&
				!c.Resources.Limits.Name(r, resource.DecimalSI).IsZero(), "%s: %s has no request or no limit", c.Name,
				r)
		}
		_, tag, _ := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
		want(tag != "" && tag != "latest", "%s: image %s names no release: the image pushed last would run",
			c.Name, c.Image)
		for _, e := range c.Env {
			want(e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil,
				"%s: %s is a secret in the environment, which children and dumps see: mount it, and name the file "+
					"in %s_FILE", c.Name, e.Name, e.Name)
		}
	}
	return found
}

func isSet(b *bool, want bool) bool { return b != nil && *b == want }

// rolloutFindings returns what a Deployment lacks to be replaced without a failed
// call.
func rolloutFindings(d *appsv1.Deployment) (found []string) {
	want := func(good bool, text string) {
		if !good {
			found = append(found, "Deployment "+d.Name+": "+text)
		}
	}
	r := d.Spec.Strategy.RollingUpdate
	want(r != nil && r.MaxUnavailable != nil && *r.MaxUnavailable == intstr.FromInt32(0),
		"a rollout stops a replica before its replacement is ready: set maxUnavailable: 0")
	want(len(d.Spec.Template.Spec.TopologySpreadConstraints) > 0,
		"its replicas may all be on one node: set topologySpreadConstraints")
	c := d.Spec.Template.Spec.Containers[0]
	for name, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe,
		"liveness": c.LivenessProbe} {
		port := int32(0)
		for _, of := range c.Ports {
			if of.Name == "health" {
				port = of.ContainerPort
			}
		}
		want(p != nil && p.GRPC != nil && p.GRPC.Port == port, name+"Probe must be grpc, on the health port")
	}
	want(c.StartupProbe == nil || c.StartupProbe.GRPC == nil || c.StartupProbe.GRPC.Service != nil &&
		*c.StartupProbe.GRPC.Service == "liveness",
		"a replica that waits for its database is killed: the startup probe must check the service \"liveness\"")
	want(c.LivenessProbe != nil && c.LivenessProbe.GRPC != nil && c.LivenessProbe.GRPC.Service != nil &&
		*c.LivenessProbe.GRPC.Service == "liveness",
		"a replica that drains is killed for it: the liveness probe must check the service \"liveness\"")
	return found
}

// lowestTarget is the least use of the processor by a replica, in thousandths of one, at
// which an autoscaler may add another: with less a service has all its replicas while one
// or two would do.
const lowestTarget = 300

// autoscalerFindings returns what is wrong with when replicas are added.
func autoscalerFindings(r rendering) (found []string) {
	for _, a := range all[*autoscalingv2.HorizontalPodAutoscaler](r) {
		d, ok := named[*appsv1.Deployment](r, a.Spec.ScaleTargetRef.Name)
		if !ok {
			found = append(found, a.Name+": there is no such Deployment")
			continue
		}
		c := d.Spec.Template.Spec.Containers[0].Resources
		for _, m := range a.Spec.Metrics {
			target := c.Requests.Cpu().MilliValue() * int64(*m.Resource.Target.AverageUtilization) / 100
			if target < lowestTarget || target > c.Limits.Cpu().MilliValue()/2 {
				found = append(found, fmt.Sprintf("%s: a replica is added at %d m of a processor each, want %d to "+
					"half of the limit", a.Name, target, lowestTarget))
			}
		}
	}
	return found
}

// deploymentsWithoutBudget returns the Deployments whose pods may all be evicted at
// the same time.
func deploymentsWithoutBudget(r rendering) (found []string) {
	for _, d := range all[*appsv1.Deployment](r) {
		b, ok := named[*policyv1.PodDisruptionBudget](r, d.Name)
		if !ok || b.Spec.MaxUnavailable == nil || *b.Spec.MaxUnavailable != intstr.FromInt32(1) ||
			!matches(b.Spec.Selector, d.Spec.Template.Labels) {
			found = append(found, d.Name+": has no PodDisruptionBudget of this name with maxUnavailable: 1")
		}
	}
	return found
}

func TestPodsMayDoNoMoreThanTheyNeed(t *testing.T) {
	for _, overlay := range overlays() {
		r := render(t, overlay)
		for _, w := range workloads(r) {
			report(t, overlay, securityFindings(w))
		}
		for _, d := range all[*appsv1.Deployment](r) {
			report(t, overlay, rolloutFindings(d))
		}
		report(t, overlay, deploymentsWithoutBudget(r))
		report(t, overlay, autoscalerFindings(r))
	}
}

func TestAnAutoscalerThatAddsReplicasForLittleIsReported(t *testing.T) {
	r := render(t, "prod")
	d, _ := named[*appsv1.Deployment](r, "wallet")
	d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("100m")
	found := autoscalerFindings(r)
	if len(found) != 1 || !strings.Contains(found[0], "wallet: a replica is added at 70 m") {
		t.Errorf("reported %q", found)
	}
}

// TestAPodThatMayDoMoreIsReported is the control of the test above.
func TestAPodThatMayDoMoreIsReported(t *testing.T) {
	pod := func(f func(*corev1.PodSpec)) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) { f(&d.Spec.Template.Spec) }
	}
	first := func(f func(*corev1.Container)) func(*appsv1.Deployment) {
		return pod(func(s *corev1.PodSpec) { f(&s.Containers[0]) })
	}
	yes, root, open := true, int64(0), int32(0o644)
	for name, tt := range map[string]struct {
		mutate func(*appsv1.Deployment)
		want   string
	}{
		"a token": {pod(func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = nil }),
			"get no token"},
		"service links": {pod(func(s *corev1.PodSpec) { s.EnableServiceLinks = &yes }),
			"enableServiceLinks"},
		"the host's network":  {pod(func(s *corev1.PodSpec) { s.HostNetwork = true }), "the host"},
		"no security context": {pod(func(s *corev1.PodSpec) { s.SecurityContext = nil }), "runs as root"},
		"root": {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsUser = &root }),
			"runs as root"},
		"a user by the image": {pod(func(s *corev1.PodSpec) { s.SecurityContext.RunAsUser = nil }), "by number"},
		"no seccomp": {pod(func(s *corev1.PodSpec) { s.SecurityContext.SeccompProfile = nil }),
			"seccomp"},
		"a secret all may read": {pod(func(s *corev1.PodSpec) { s.Volumes[0].Secret.DefaultMode = &open }), "0440"},
		"a folder of the host": {pod(func(
			s *corev1.PodSpec) {
			s.Volumes[0].HostPath = &corev1.HostPathVolumeSource{}
		}), "of the host"},
		"escalation": {first(func(
			c *corev1.Container) {
			c.SecurityContext.AllowPrivilegeEscalation = &yes
		}), "allowPrivilegeEscalation"},
		"a root that is writable": {first(func(
			c *corev1.Container) {
			c.SecurityContext.ReadOnlyRootFilesystem = nil
		}), "readOnlyRootFilesystem"},
		"capabilities": {first(func(
			c *corev1.Container) {
			c.SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
		}),
			"capabilities"},
		"no limit of memory": {first(func(c *corev1.Container) { delete(c.Resources.Limits, "memory") }),
			"memory has no request or no limit"},
		"no request of processors": {first(func(c *corev1.Container) { delete(c.Resources.Requests, "cpu") }),
			"cpu has no request or no limit"},
		"the latest image": {first(func(c *corev1.Container) { c.Image = "registry:5000/auth:latest" }),
			"names no release"},
		"an image without a tag": {first(func(c *corev1.Container) { c.Image = "registry:5000/auth" }),
			"names no release"},
		"a secret as a variable": {first(func(c *corev1.Container) {
			c.Env[0].ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}
		}), "_FILE"},
		"no startup probe": {first(func(c *corev1.Container) { c.StartupProbe = nil }), "startupProbe"},
		"another port": {first(func(c *corev1.Container) { c.ReadinessProbe.GRPC.Port = 9000 }),
			"readinessProbe"},
		"a probe that drains": {first(func(c *corev1.Container) { c.LivenessProbe.GRPC.Service = nil }),
			"killed for it"},
		"a gap in a rollout": {func(d *appsv1.Deployment) { d.Spec.Strategy.RollingUpdate = nil }, "maxUnavailable"},
		"all on one node":    {pod(func(s *corev1.PodSpec) { s.TopologySpreadConstraints = nil }), "topologySpread"},
		"no budget":          {func(d *appsv1.Deployment) { d.Name = "other" }, "PodDisruptionBudget"},
		"a budget of others": {func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }, "PodDisruptionBudget"},
	} {
		t.Run(name, func(t *testing.T) {
			r := render(t, "dev")
			d, _ := named[*appsv1.Deployment](r, "auth")
			tt.mutate(d)
			found := slices.Concat(rolloutFindings(d), deploymentsWithoutBudget(r))
			for _, w := range workloads(r) {
				found = append(found, securityFindings(w)...)
			}
			if len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), tt.want) {
				t.Errorf("reported %q, want %q", found, tt.want)
			}
		})
	}
}
