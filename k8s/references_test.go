package k8s_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// secrets are the keys of each Secret, by its name.
type secrets map[string][]string

// renderedSecrets returns the Secrets that are part of a rendering.
func renderedSecrets(r rendering) secrets {
	found := secrets{}
	for _, s := range all[*corev1.Secret](r) {
		found[s.Name] = slices.Collect(maps.Keys(s.Data))
	}
	return found
}

// exampleSecrets returns the Secrets that external-secrets.example.yaml makes for
// prod. The example is not part of the overlay.
func exampleSecrets(t *testing.T) secrets {
	t.Helper()
	text, err := os.ReadFile("overlays/prod/external-secrets.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := secrets{}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var e struct {
			Kind string
			Spec struct {
				SecretName string `yaml:"secretName"`
				Target     struct{ Name string }
				Data       []struct {
					SecretKey string `yaml:"secretKey"`
				}
			}
		}
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case "Certificate":
			found[e.Spec.SecretName] = []string{"tls.crt", "tls.key", "ca.crt"}
		case "ExternalSecret":
			for _, k := range e.Spec.Data {
				found[e.Spec.Target.Name] = append(found[e.Spec.Target.Name], k.SecretKey)
			}
		default:
			t.Fatalf("the example has a %q", e.Kind)
		}
	}
}

// missingReferences returns what a workload refers to and the rendering lacks.
func missingReferences(r rendering, known secrets, w workload) (found []string) {
	add := func(what, name string) {
		found = append(found, fmt.Sprintf("%s refers to %s %s, which is missing", w.name, what, name))
	}
	config := func(name string) {
		if _, ok := named[*corev1.ConfigMap](r, name); !ok {
			add("ConfigMap", name)
		}
	}
	if name := w.pod.Spec.ServiceAccountName; name != "" {
		if _, ok := named[*corev1.ServiceAccount](r, name); !ok {
			add("ServiceAccount", name)
		}
	}
	volumes, mounted := map[string]bool{}, map[string]bool{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil {
			config(v.ConfigMap.Name)
		}
		if v.Secret != nil && known[v.Secret.SecretName] == nil {
			add("Secret", v.Secret.SecretName)
		}
	}
	if s, ok := w.object.(*appsv1.StatefulSet); ok {
		for _, v := range s.Spec.VolumeClaimTemplates {
			volumes[v.Name] = true
		}
	}
	for _, c := range w.containers() {
		for _, e := range c.EnvFrom {
			config(e.ConfigMapRef.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				add("volume", m.Name)
			}
			mounted[m.Name] = true
		}
	}
	for _, v := range w.pod.Spec.Volumes {
		if mounted[v.Name] {
			continue
		}
		found = append(found, fmt.Sprintf("%s has a volume %s that no container mounts", w.name, v.Name))
	}
	return found
}

// brokenReferences returns what the objects of a rendering refer to and the
// rendering lacks.
func brokenReferences(r rendering, known secrets) (found []string) {
	for _, w := range workloads(r) {
		found = append(found, missingReferences(r, known, w)...)
	}
	for _, h := range all[*autoscalingv2.HorizontalPodAutoscaler](r) {
		if d, ok := named[*appsv1.Deployment](r, h.Spec.ScaleTargetRef.Name); !ok {
			found = append(found, fmt.Sprintf("%s scales Deployment %s, which is missing", h.Name,
				h.Spec.ScaleTargetRef.Name))
		} else if d.Spec.Replicas != nil {
			found = append(found, h.Name+": the Deployment's replicas undo the autoscaler's at every apply")
		}
	}
	return append(found, servicesWithoutPod(r)...)
}

// servicesWithoutPod returns the Services that select no pods, or lead to a port
// that their pods don't have.
func servicesWithoutPod(r rendering) (found []string) {
	for _, s := range all[*corev1.Service](r) {
		var pods []workload
		for _, w := range workloads(r) {
			if matches(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}, w.pod.Labels) {
				pods = append(pods, w)
			}
		}
		if len(pods) != 1 {
			found = append(found, fmt.Sprintf("Service %s selects the pods of %d workloads", s.Name, len(pods)))
			continue
		}
		for _, p := range s.Spec.Ports {
			if _, ok := containerPort(pods[0], p.TargetPort.StrVal); !ok {
				found = append(found, fmt.Sprintf("Service %s leads to a port %s that its pods don't name", s.Name,
					p.TargetPort.String()))
			}
		}
	}
	return found
}

// containerPort returns the number of a port by its name.
func containerPort(w workload, name string) (int32, bool) {
	for _, c := range w.pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func matches(s *metav1.LabelSelector, of map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(of))
}

func TestWhatIsReferredToIsThere(t *testing.T) {
	dev, prod := render(t, "dev"), render(t, "prod")
	report(t, "dev", brokenReferences(dev, renderedSecrets(dev)))
	report(t, "prod", brokenReferences(prod, exampleSecrets(t)))
	if s := renderedSecrets(prod); len(s) > 0 {
		t.Errorf("prod has Secrets of its own, whose values are in the repository: %v", s)
	}
	for name := range exampleSecrets(t) {
		if !slices.ContainsFunc(workloads(prod), func(w workload) bool {
			return slices.ContainsFunc(w.pod.Spec.Volumes,
				func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == name })
		}) {
			t.Errorf("prod's example makes a Secret %s that nothing uses", name)
		}
	}
}

// TestWhatIsNotThereIsReported is the control of the test above.
func TestWhatIsNotThereIsReported(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(rendering, *appsv1.Deployment, *corev1.Service)
		want   string
	}{
		"a config": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name = "x"
		}, "ConfigMap x"},
		"a secret": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Volumes[0].Secret.SecretName = "x"
		}, "Secret x"},
		"an account": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.ServiceAccountName = "x"
		}, "ServiceAccount x"},
		"a volume": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Volumes[0].Name = "x"
		}, "refers to volume"},
		"a volume that nothing mounts": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Service) {
			d.Spec.Template.Spec.Containers[0].VolumeMounts = nil
		}, "no container mounts"},
		"pods of a service": {func(_ rendering, _ *appsv1.Deployment,
			s *corev1.Service) {
			s.Spec.Selector["x"] = "y"
		}, "the pods of 0 workloads"},
		"a port of the pods": {func(_ rendering, _ *appsv1.Deployment,
			s *corev1.Service) {
			s.Spec.Ports[0].TargetPort.StrVal = "x"
		}, "a port x"},
		"a deployment to scale": {func(r rendering, _ *appsv1.Deployment, _ *corev1.Service) {
			h, _ := named[*autoscalingv2.HorizontalPodAutoscaler](r, "auth")
			h.Spec.ScaleTargetRef.Name = "x"
		}, "Deployment x"},
		"replicas beside an autoscaler": {func(_ rendering, d *appsv1.Deployment,
			_ *corev1.Service) {
			d.Spec.Replicas = new(int32)
		}, "undo the autoscaler"},
	} {
		t.Run(name, func(t *testing.T) {
			r := render(t, "prod")
			d, _ := named[*appsv1.Deployment](r, "auth")
			s, _ := named[*corev1.Service](r, "auth")
			tt.mutate(r, d, s)
			if got := strings.Join(brokenReferences(r, exampleSecrets(t)), "\n"); !strings.Contains(got, tt.want) {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTheJobsCanRunBeforeTheRollout checks the overlays against the commands of
// docs/deploy.md, which first apply everything that isn't labelled as a server.
func TestTheJobsCanRunBeforeTheRollout(t *testing.T) {
	for _, overlay := range overlays() {
		var beforeRollout, rollout rendering
		for _, o := range render(t, overlay) {
			if o.GetLabels()["app.kubernetes.io/component"] == "server" {
				rollout = append(rollout, o)
			} else {
				beforeRollout = append(beforeRollout, o)
			}
		}
		if n := len(all[*appsv1.Deployment](rollout)) +
			len(all[*autoscalingv2.HorizontalPodAutoscaler](rollout)); n != len(rollout) ||
			len(all[*appsv1.Deployment](beforeRollout)) > 0 {
			t.Errorf("%s: the rollout is more than the Deployments and autoscalers, or less: %d of %d", overlay, n,
				len(rollout))
		}
		for _, w := range workloads(beforeRollout) {
			if w.label("component") == "migrate" {
				report(t, overlay, missingReferences(beforeRollout, mountableSecrets(t, overlay, beforeRollout), w))
			}
		}
	}
}

// A container that doesn't wait fails at once where a network plugin has not admitted its pod yet.
func TestEveryContainerOfAJobWaitsForTheDatabase(t *testing.T) {
	for _, overlay := range overlays() {
		r := render(t, overlay)
		for _, w := range workloads(r) {
			if w.label("component") != "migrate" {
				continue
			}
			for _, c := range w.containers() {
				given := environment(r, c, t.TempDir())["PURSER_DATABASE_WAIT"]
				if wait, err := time.ParseDuration(given); err != nil || wait < time.Minute {
					t.Errorf("%s, %s, container %s: PURSER_DATABASE_WAIT is %q, want a minute or more", overlay,
						w.name, c.Name, given)
				}
			}
		}
	}
}

func TestProdRunsThreeReplicasOfEach(t *testing.T) {
	r := render(t, "prod")
	for _, d := range all[*appsv1.Deployment](r) {
		if h, ok := named[*autoscalingv2.HorizontalPodAutoscaler](r, d.Name); !ok || h.Spec.MinReplicas == nil ||
			*h.Spec.MinReplicas < 3 {
			t.Errorf("%s has no autoscaler that keeps three", d.Name)
		}
	}
}
