package k8s_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// withComponents are the components that can be used together, all but that of Argo CD.
func withComponents() []string { return []string{"gateway", "hard-spread", "ingress", "priority"} }

// writeOverlay writes an overlay on that of prod, with more of a kustomization, into a new folder, and returns that.
func writeOverlay(t *testing.T, more string, components ...string) string {
	t.Helper()
	dir := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	back, err := filepath.Rel(dir, here)
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: purser\n" +
		"resources: [" + back + "/overlays/prod]\ncomponents:\n"
	for _, c := range components {
		text += "  - " + back + "/components/" + c + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// renderFolder renders an overlay in any folder. Objects of the Gateway API are left as they are: the module k8s/crds
// checks them against their schemas.
func renderFolder(t *testing.T, dir string) rendering {
	t.Helper()
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var r rendering
	for _, f := range found.Resources() {
		text, err := f.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(f.GetApiVersion(), "gateway.networking.k8s.io/") {
			var o unstructured.Unstructured
			b, err := f.MarshalJSON()
			if err == nil {
				err = o.UnmarshalJSON(b)
			}
			if err != nil {
				t.Fatal(err)
			}
			r = append(r, &o)
			continue
		}
		o, err := decode(text)
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		r = append(r, o)
	}
	return r
}

// hasPort reports whether a Service is there and has a port of that name or number.
func hasPort(r rendering, service, name string, number int32) bool {
	s, ok := named[*corev1.Service](r, service)
	return ok && slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		return name != "" && p.Name == name || number > 0 && p.Port == number
	})
}

// issuerHost is the host at which auth is known.
func issuerHost(t *testing.T, r rendering) string {
	t.Helper()
	for _, m := range all[*corev1.ConfigMap](r) {
		if strings.HasPrefix(m.Name, "auth-config") {
			u, err := url.Parse(m.Data["PURSER_ISSUER"])
			if err != nil {
				t.Fatal(err)
			}
			return u.Hostname()
		}
	}
	t.Fatal("there is no configuration of auth")
	return ""
}

// entryFindings returns what is wrong with the ways in from the outside.
func entryFindings(r rendering, issuer string) (found []string) {
	want := func(good bool, format string, args ...any) {
		if !good {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	for _, i := range all[*networkingv1.Ingress](r) {
		var secured []string
		for _, t := range i.Spec.TLS {
			secured = append(secured, t.Hosts...)
		}
		for _, rule := range i.Spec.Rules {
			want(rule.Host == issuer, "Ingress %s is for %s, and the issuer is at %s", i.Name, rule.Host, issuer)
			want(slices.Contains(secured, rule.Host), "Ingress %s has no certificate for %s", i.Name, rule.Host)
			for _, p := range rule.HTTP.Paths {
				b := p.Backend.Service
				want(hasPort(r, b.Name, b.Port.Name, b.Port.Number),
					"Ingress %s leads to a Service %s that isn't there", i.Name, b.Name)
			}
		}
	}
	listeners := map[string]string{} // hostnames
	for _, o := range all[*unstructured.Unstructured](r) {
		for _, l := range slice(o.Object, "spec", "listeners") {
			listeners[fmt.Sprint(o.GetName(), " ", l["name"])] = fmt.Sprint(l["hostname"])
		}
	}
	for _, o := range all[*unstructured.Unstructured](r) {
		what := o.GetKind() + " " + o.GetName()
		hosts, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "hostnames")
		for _, p := range slice(o.Object, "spec", "parentRefs") {
			listens, ok := listeners[fmt.Sprint(p["name"], " ", p["sectionName"])]
			want(ok, "%s is for a listener %v that isn't there", what, p["sectionName"])
			for _, h := range hosts {
				_, domain, _ := strings.Cut(h, ".")
				want(h == listens || "*."+domain == listens, "%s: the listener doesn't take %s", what, h)
				want(o.GetKind() != "HTTPRoute" || h == issuer, "%s is for %s, and the issuer is at %s", what, h,
					issuer)
			}
		}
		for _, rule := range slice(o.Object, "spec", "rules") {
			for _, b := range slice(rule, "backendRefs") {
				port, _ := b["port"].(int64)
				want(hasPort(r, fmt.Sprint(b["name"]), "", int32(port)), "%s leads to a Service %v that isn't there",
					what, b["name"])
			}
		}
		for _, b := range slice(o.Object, "spec", "targetRefs") {
			want(hasPort(r, fmt.Sprint(b["name"]), fmt.Sprint(b["sectionName"]), 0),
				"%s is for a Service %v that isn't there", what, b["name"])
		}
	}
	return found
}

// slice returns a list of objects in an object.
func slice(o map[string]any, path ...string) (found []map[string]any) {
	value, _, _ := unstructured.NestedFieldNoCopy(o, path...)
	list, _ := value.([]any)
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			found = append(found, m)
		}
	}
	return found
}

// componentFindings returns what the components don't do that their names say.
func componentFindings(r rendering) (found []string) {
	want := func(good bool, what, text string) {
		if !good {
			found = append(found, what+": "+text)
		}
	}
	for _, w := range workloads(r) {
		class, ok := named[*schedulingv1.PriorityClass](r, w.pod.Spec.PriorityClassName)
		want(ok && !class.GlobalDefault && class.Value > 0 && class.Value < 1_000_000_000, w.name,
			"it has no PriorityClass of the overlay's own")
	}
	for _, d := range all[*appsv1.Deployment](r) {
		topologies := map[string]bool{}
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			hard := c.WhenUnsatisfiable == corev1.DoNotSchedule
			want(hard, d.Name, "a replica may be scheduled beside another")
			want(!hard || c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor, d.Name,
				"a pod of a drained node waits for that node")
			topologies[c.TopologyKey] = true
		}
		want(topologies[corev1.LabelHostname] && topologies[corev1.LabelTopologyZone], d.Name,
			"it isn't spread over nodes and zones")
	}
	return found
}

func TestTheComponentsDoWhatTheirNamesSay(t *testing.T) {
	r := renderFolder(t, writeOverlay(t, "", withComponents()...))
	report(t, "with components", entryFindings(r, issuerHost(t, r)))
	report(t, "with components", componentFindings(r))
	report(t, "with components", brokenReferences(r, exampleSecrets(t)))
	kinds := map[string]int{}
	for _, o := range r {
		kinds[o.GetObjectKind().GroupVersionKind().Kind]++
		if n := o.GetNamespace(); n != "purser" && !slices.Contains([]string{"Namespace", "PriorityClass"},
			o.GetObjectKind().GroupVersionKind().Kind) {
			t.Errorf("%s is in the namespace %q", o.GetName(), n)
		}
	}
	for kind, want := range map[string]int{"Ingress": 1, "Gateway": 1, "HTTPRoute": 1, "GRPCRoute": 3,
		"BackendTLSPolicy": 4, "PriorityClass": 1} {
		if kinds[kind] != want {
			t.Errorf("there are %d of %s, want %d", kinds[kind], kind, want)
		}
	}
	for _, w := range workloads(r) {
		report(t, "with components", securityFindings(w))
	}
}

// The control of the test above.
func TestAComponentThatLeadsNowhereIsReported(t *testing.T) {
	dir := writeOverlay(t, "", withComponents()...)
	r := renderFolder(t, dir)
	for old, mutated := range map[string]func(rendering){
		"Ingress auth-http is for other": func(r rendering) {
			i, _ := named[*networkingv1.Ingress](r, "auth-http")
			i.Spec.Rules[0].Host = "other"
		},
		"Ingress auth-http has no certificate": func(r rendering) {
			i, _ := named[*networkingv1.Ingress](r, "auth-http")
			i.Spec.TLS = nil
		},
		"leads to a Service none": func(r rendering) {
			i, _ := named[*networkingv1.Ingress](r, "auth-http")
			i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name = "none"
		},
		"GRPCRoute wallet leads to a Service wallet": func(r rendering) {
			s, _ := named[*corev1.Service](r, "wallet")
			s.Spec.Ports[0].Port = 9001
		},
		"BackendTLSPolicy wallet is for a Service wallet": func(r rendering) {
			s, _ := named[*corev1.Service](r, "wallet")
			s.Spec.Ports[0].Name = "other"
		},
		"for a listener grpc that isn't there": func(r rendering) {
			for _, o := range all[*unstructured.Unstructured](r) {
				if o.GetKind() == "Gateway" {
					unstructured.RemoveNestedField(o.Object, "spec", "listeners")
				}
			}
		},
		"may be scheduled beside another": func(r rendering) {
			d, _ := named[*appsv1.Deployment](r, "auth")
			d.Spec.Template.Spec.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.ScheduleAnyway
		},
		"waits for that node": func(r rendering) {
			d, _ := named[*appsv1.Deployment](r, "auth")
			d.Spec.Template.Spec.TopologySpreadConstraints[0].NodeTaintsPolicy = nil
		},
		"no PriorityClass": func(r rendering) {
			d, _ := named[*appsv1.Deployment](r, "auth")
			d.Spec.Template.Spec.PriorityClassName = ""
		},
	} {
		var copied rendering
		for _, o := range r {
			copied = append(copied, o.DeepCopyObject().(object))
		}
		mutated(copied)
		got := strings.Join(append(entryFindings(copied, "auth.example.com"), componentFindings(copied)...), "\n")
		if !strings.Contains(got, old) {
			t.Errorf("reported %q, want %q", got, old)
		}
	}
}

// An overlay may name its images by what they contain: the same images run whatever is pushed under the tag later.
func TestImagesCanBePinnedByTheirDigests(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	more := "images:\n"
	for _, s := range services() {
		more += "  - {name: registry.example/purser/" + s + ", digest: \"" + digest + "\"}\n"
	}
	r := renderFolder(t, writeOverlay(t, more))
	for _, w := range workloads(r) {
		report(t, "pinned", securityFindings(w))
		for _, c := range w.containers() {
			if want := "registry.example/purser/" + w.label("name") + "@" + digest; c.Image != want {
				t.Errorf("%s runs %s, want %s", w.name, c.Image, want)
			}
		}
	}
}

// The pod of docs/kubernetes.md may do no more than those of the services, and reaches Postgres alone.
func TestThePodForBackupsReachesPostgresAlone(t *testing.T) {
	text, err := os.ReadFile("examples/postgres-client.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	pod := o.(*corev1.Pod)
	w := workload{"Pod " + pod.Name, pod, &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}}
	report(t, "example", securityFindings(w))
	r := append(render(t, "prod"), pod)
	report(t, "example", missingReferences(r, exampleSecrets(t), w))
	for port, want := range map[int32]bool{5432: true, 443: false} {
		to := target{peer{ip: netip.MustParseAddr("10.0.0.5")}, corev1.ProtocolTCP, port}
		if allows(r, w.peer(), to) != want {
			t.Errorf("port %d is open: %t", port, !want)
		}
	}
	for _, of := range workloads(r) {
		if allows(r, w.peer(), target{of.peer(), corev1.ProtocolTCP, 9000}) {
			t.Errorf("it reaches %s", of.name)
		}
	}
}
