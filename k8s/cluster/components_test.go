package cluster_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// defineKinds gives the cluster the kinds of other projects that the manifests use, as those publish them.
func defineKinds(t *testing.T) {
	t.Helper()
	list, err := os.ReadFile("../crds/published.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		module, folder, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || module == "#" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := cmd.Output()
		var got struct{ Dir string }
		if jsonErr := json.Unmarshal(out, &got); err != nil || jsonErr != nil {
			t.Fatalf("%s can't be had: %v %v\n%s", module, err, jsonErr, out)
		}
		files, err := filepath.Glob(filepath.Join(got.Dir, folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		// Some are too large for the annotation of a client's apply. Those that another has installed stay: a conflict
		// fails the test.
		args := []string{"apply", "--server-side"}
		for _, file := range files {
			if filepath.Base(file) != "kustomization.yaml" {
				args = append(args, "-f", file)
			}
		}
		kubectl(t, "", args...)
	}
	kubectl(t, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=2m")
}

// Every component at once is taken by the API server, with the rules of the kinds of other projects, and the services
// run with them; so is the example with the Secrets and certificates.
func TestTheComponentsAreTakenByACluster(t *testing.T) {
	needCluster(t)
	setUp(t)
	defineKinds(t)
	kubectl(t, "", "apply", "--server-side", "--dry-run=server", "-f",
		"../overlays/prod/external-secrets.example.yaml")
	// With hard spread a pod needs a node that is in a zone. Those of the cluster stay.
	for node := range strings.FieldsSeq(kubectl(t, "", "get", "nodes", "-l", "!topology.kubernetes.io/zone", "-o",
		"name")) {
		kubectl(t, "", "label", node, "topology.kubernetes.io/zone=a")
	}
	const overlay = ".build/cluster-components"
	folder := filepath.Join("../..", overlay)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: purser\n" +
		"resources: [../cluster]\ncomponents:\n"
	for _, c := range []string{"gateway", "hard-spread", "ingress", "monitoring", "priority"} {
		text += "  - ../../k8s/components/" + c + "\n"
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := releaseOf(t, overlay); err != nil {
		t.Fatalf("make deploy: %v\n%s", err, out)
	}
	for kind, want := range map[string]string{
		"ingress": "auth-http", "gateway": "purser", "httproute": "auth-http", "grpcroute": "auth portfolio wallet",
		"podmonitor": "purser", "prometheusrule": "purser",
		"deployment": "auth portfolio wallet",
	} {
		names := kubectl(t, "", "-n", namespace, "get", kind, "-o", "jsonpath={.items[*].metadata.name}")
		if names != want {
			t.Errorf("%s: the cluster has %q, want %q", kind, names, want)
		}
	}
	scale(t, 2, services()...)
	for _, s := range services() {
		got := kubectl(t, "", "-n", namespace, "get", "deployment", s, "-o", "jsonpath={.spec.template.spec."+
			"priorityClassName} {.spec.template.spec.topologySpreadConstraints[*].whenUnsatisfiable} "+
			"{.status.readyReplicas}")
		if got != "purser DoNotSchedule DoNotSchedule 2" {
			t.Errorf("%s has %s", s, got)
		}
	}
	if got := kubectl(t, "", "get", "configmap", "-n", namespace, "-l", "grafana_dashboard=1", "-o",
		"name"); strings.Count(got, "\n") != 6 {
		t.Errorf("the dashboards are %s", got)
	}
}
