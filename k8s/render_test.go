package k8s_test

import (
	"fmt"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// overlays are the overlays that can be applied.
func overlays() []string { return []string{"dev", "prod"} }

// services are the services, each of which has a Deployment.
func services() []string { return []string{"auth", "portfolio", "wallet"} }

// object is a Kubernetes object of a rendering.
type object interface {
	runtime.Object
	metav1.Object
}

// rendering is the objects that an overlay applies.
type rendering []object

// render returns an overlay as `kubectl kustomize` renders it, in objects that the
// test may change. They are decoded strictly: a field that Kubernetes doesn't know
// fails the test.
func render(t *testing.T, overlay string) rendering {
	t.Helper()
	rendered, err := renderAll()
	if err != nil {
		t.Fatal(err)
	}
	var objects rendering
	for _, o := range rendered[overlay] {
		objects = append(objects, o.DeepCopyObject().(object))
	}
	return objects
}

// renderAll renders and decodes each overlay once, since that takes far longer than
// to copy the objects.
var renderAll = sync.OnceValues(func() (map[string]rendering, error) {
	renderings := map[string]rendering{}
	for _, overlay := range overlays() {
		found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(),
			"overlays/"+overlay)
		if err != nil {
			return nil, err
		}
		for _, r := range found.Resources() {
			text, err := r.AsYAML()
			if err != nil {
				return nil, err
			}
			o, err := decode(text)
			if err != nil {
				return nil, fmt.Errorf("%w:\n%s", err, text)
			}
			renderings[overlay] = append(renderings[overlay], o)
		}
	}
	return renderings, nil
})

// types returns the types that an object can have.
var types = sync.OnceValues(func() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme,
		corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, schedulingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
})

// decode decodes one object.
func decode(text []byte) (object, error) {
	scheme, err := types()
	if err != nil {
		return nil, err
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	decoded, kind, err := s.Decode(text, nil, nil)
	if err != nil {
		return nil, err
	}
	o, ok := decoded.(object)
	if !ok {
		return nil, fmt.Errorf("%s is no object", kind)
	}
	return o, nil
}

// all returns the objects of one type.
func all[T object](r rendering) []T {
	var found []T
	for _, o := range r {
		if is, ok := o.(T); ok {
			found = append(found, is)
		}
	}
	return found
}

// named returns the object of one type with a name.
func named[T object](r rendering, name string) (T, bool) {
	for _, o := range all[T](r) {
		if o.GetName() == name {
			return o, true
		}
	}
	var none T
	return none, false
}

// workload is an object that creates pods.
type workload struct {
	name   string
	object object
	pod    *corev1.PodTemplateSpec
}

// label returns a label app.kubernetes.io/<key> of the workload's pods.
func (w workload) label(key string) string { return w.pod.Labels["app.kubernetes.io/"+key] }

// containers returns a pod's containers, init containers included.
func (w workload) containers() []*corev1.Container {
	var all []*corev1.Container
	for i := range w.pod.Spec.InitContainers {
		all = append(all, &w.pod.Spec.InitContainers[i])
	}
	for i := range w.pod.Spec.Containers {
		all = append(all, &w.pod.Spec.Containers[i])
	}
	return all
}

// workloads returns the workloads of a rendering. It misses kinds that it doesn't
// know, which unknownKinds reports.
func workloads(r rendering) []workload {
	var found []workload
	for _, o := range r {
		switch is := o.(type) {
		case *appsv1.Deployment:
			found = append(found, workload{"Deployment " + is.Name, o, &is.Spec.Template})
		case *appsv1.StatefulSet:
			found = append(found, workload{"StatefulSet " + is.Name, o, &is.Spec.Template})
		case *batchv1.Job:
			found = append(found, workload{"Job " + is.Name, o, &is.Spec.Template})
		}
	}
	return found
}

func unknownKinds(r rendering) (found []string) {
	for _, o := range r {
		switch o.(type) {
		case *appsv1.Deployment, *appsv1.StatefulSet, *batchv1.Job, *autoscalingv2.HorizontalPodAutoscaler,
			*corev1.ConfigMap, *corev1.Namespace,
			*corev1.Secret, *corev1.Service, *corev1.ServiceAccount, *networkingv1.NetworkPolicy,
			*policyv1.PodDisruptionBudget:
		default:
			found = append(found, fmt.Sprintf("%T %s: no test here knows this kind", o, o.GetName()))
		}
	}
	return found
}

func TestTheOverlaysRenderToWhatKubernetesKnows(t *testing.T) {
	for _, overlay := range overlays() {
		r := render(t, overlay)
		report(t, overlay, unknownKinds(r))
		for _, service := range services() {
			if _, ok := named[*appsv1.Deployment](r, service); !ok {
				t.Errorf("%s: there is no Deployment %s", overlay, service)
			}
			if _, ok := named[*batchv1.Job](r, service+"-migrate"); !ok {
				t.Errorf("%s: there is no Job %s-migrate", overlay, service)
			}
		}
		for _, o := range r {
			if _, is := o.(*corev1.Namespace); !is && o.GetNamespace() == "" {
				t.Errorf("%s: %s is in no namespace", overlay, o.GetName())
			}
		}
	}
}

// TestWhatKubernetesDoesNotKnowIsRefused is the control of the test above.
func TestWhatKubernetesDoesNotKnowIsRefused(t *testing.T) {
	for text, good := range map[string]bool{
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, automountServiceAccountToken: false}": true,
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, automountServiceAccount: false}":      false,
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, name: b}}":                             false,
		"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: {name: a}}}":                  false,
		"{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: a}}":                          false,
	} {
		if _, err := decode([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got := unknownKinds(rendering{&corev1.Pod{}}); len(got) != 1 {
		t.Errorf("a pod of nobody's: %v", got)
	}
}

func report(t *testing.T, overlay string, found []string) {
	t.Helper()
	for _, f := range found {
		t.Errorf("%s: %s", overlay, f)
	}
}
