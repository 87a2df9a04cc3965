package k8s_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// monitoring is what the component adds to an overlay.
type monitoring struct {
	pods       monitoringv1.PodMonitor
	rules      monitoringv1.PrometheusRule
	dashboards map[string]corev1.ConfigMap
}

// renderMonitoring renders the component in an overlay of its own, and decodes its objects strictly: a field that the
// Prometheus Operator doesn't know fails.
func renderMonitoring(t *testing.T) monitoring {
	t.Helper()
	files, overlay := filesys.MakeFsOnDisk(), t.TempDir()
	here, err := filepath.Abs("components/monitoring")
	if err != nil {
		t.Fatal(err)
	}
	component, err := filepath.Rel(overlay, here)
	if err != nil {
		t.Fatal(err)
	}
	kustomization := "namespace: purser\ncomponents: [" + component + "]\n"
	if err := files.WriteFile(overlay+"/kustomization.yaml", []byte(kustomization)); err != nil {
		t.Fatal(err)
	}
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, overlay)
	if err != nil {
		t.Fatal(err)
	}
	m := monitoring{dashboards: map[string]corev1.ConfigMap{}}
	for _, r := range found.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		var dashboard corev1.ConfigMap
		into := map[string]any{"PodMonitor": &m.pods, "PrometheusRule": &m.rules, "ConfigMap": &dashboard}[r.GetKind()]
		if into == nil {
			t.Fatalf("an object of the kind %s", r.GetKind())
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Errorf("%s: %v", r.GetName(), err)
		}
		if r.GetKind() == "ConfigMap" {
			m.dashboards[r.GetName()] = dashboard
		}
	}
	return m
}

func TestTheMonitoringComponentIsWhatTheOperatorAndGrafanaRead(t *testing.T) {
	m := renderMonitoring(t)
	type rules struct {
		Groups []monitoringv1.RuleGroup `json:"groups"`
	}
	var documented rules
	text, err := os.ReadFile("../docs/alerts.yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, &documented)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, want := asJSON(t, rules{m.rules.Spec.Groups}), asJSON(t, documented)
	if len(documented.Groups) < 5 || got != want {
		t.Errorf("the rules are not those of docs/alerts.yaml: run go run ./services/devstack/cmd/dashboards\n"+
			"%.300s\n%.300s", got, want)
	}
	for name, c := range m.dashboards {
		if c.Labels["grafana_dashboard"] != "1" || c.Namespace != "purser" {
			t.Errorf("%s has the labels %v in %s", name, c.Labels, c.Namespace)
		}
		for file, text := range c.Data {
			var d struct {
				UID string `json:"uid"`
			}
			err := json.Unmarshal([]byte(text), &d)
			if err != nil || d.UID != "purser-"+strings.TrimSuffix(file, ".json") {
				t.Errorf("%s: uid %q, %v", file, d.UID, err)
			}
		}
	}
	files, err := os.ReadDir("components/monitoring/dashboards")
	if err != nil || len(files) == 0 || len(files) != len(m.dashboards) {
		t.Errorf("%d files of dashboards, %d ConfigMaps: %v", len(files), len(m.dashboards), err)
	}
}

// The monitor selects the pods of each service and a port that they have, and names them as the rules do.
func TestTheMonitorSelectsTheMetricsOfEachService(t *testing.T) {
	m := renderMonitoring(t)
	selected, err := metav1.LabelSelectorAsSelector(&m.pods.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.pods.Spec.PodMetricsEndpoints) != 1 || m.pods.Spec.PodMetricsEndpoints[0].Port == nil {
		t.Fatalf("endpoints %+v", m.pods.Spec.PodMetricsEndpoints)
	}
	endpoint, monitored := m.pods.Spec.PodMetricsEndpoints[0], map[string]bool{}
	for _, w := range workloads(render(t, "prod")) {
		if !selected.Matches(labels.Set(w.peer().pod)) {
			continue
		}
		monitored[w.label("name")] = true
		if _, named := containerPort(w, *endpoint.Port); !named {
			t.Errorf("%s has no port %s", w.name, *endpoint.Port)
		}
	}
	if got := slices.Sorted(maps.Keys(monitored)); !slices.Equal(got, services()) {
		t.Errorf("monitored are %v, want %v", got, services())
	}
	if r := endpoint.RelabelConfigs; len(r) != 1 || r[0].TargetLabel != "job" || r[0].Replacement == nil ||
		*r[0].Replacement != "purser-$1" {
		t.Errorf("relabelled by %+v", r)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
