package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// tally is what came of the calls of one client to one service, as the callers print it.
type tally struct {
	Client, Service       string
	Calls, Failed, Outage int
	First                 string
	Peers                 map[string]int
}

// kinds are the kinds of clients that call.
func kinds() []string { return []string{"purser", "round_robin", "pick_first", "node"} }

// startCallers runs the pod that calls all services, and waits until all its calls succeed.
func startCallers(t *testing.T, ca string) {
	t.Helper()
	createNamespace(t, callersNamespace, map[string]string{"purser/client": "true"})
	kubectl(t, "", "-n", callersNamespace, "delete", "pod", "callers", "--ignore-not-found", "--grace-period=1")
	rate := os.Getenv("CALLER_RATE")
	if rate == "" {
		rate = "50"
	}
	container := func(name, image string) map[string]any {
		return map[string]any{"name": name, "image": "docker.io/purser/" + image + ":cluster-test",
			"imagePullPolicy": "IfNotPresent",
			"env": []any{
				map[string]any{"name": "CALLER_RATE", "value": rate},
				map[string]any{"name": "CALLER_DOMAIN", "value": "." + namespace + ".svc.cluster.local"},
				map[string]any{"name": "CALLER_CA", "value": "/run/ca/ca.crt"},
				map[string]any{"name": "CALLER_CERT", "value": "/run/tls/tls.crt"},
				map[string]any{"name": "CALLER_KEY", "value": "/run/tls/tls.key"},
				map[string]any{"name": "CALLER_TOKENS", "value": "/run/tokens"},
			},
			"volumeMounts": []any{
				map[string]any{"name": "ca", "mountPath": "/run/ca"},
				map[string]any{"name": "tls", "mountPath": "/run/tls"},
				map[string]any{"name": "tokens", "mountPath": "/run/tokens"},
			}}
	}
	apply(t, callersNamespace,
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "ca"},
			"data": map[string]string{"ca.crt": ca}},
		map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "callers"},
			"spec": map[string]any{
				"terminationGracePeriodSeconds": 1,
				"securityContext":               map[string]any{"runAsUser": 65532, "fsGroup": 65532},
				"containers": []any{container("caller", "caller"),
					container("node", "caller-node")},
				"volumes": []any{
					map[string]any{"name": "ca", "configMap": map[string]any{"name": "ca"}},
					map[string]any{"name": "tls", "secret": map[string]any{"secretName": "callers-tls"}},
					map[string]any{"name": "tokens", "emptyDir": map[string]any{}},
				}}})
	kubectl(t, "", "-n", callersNamespace, "wait", "--for=condition=Ready", "pod/callers", "--timeout=3m")
	before := map[string]tally{}
	testkit.Eventually(t, 5*time.Minute, func() bool {
		now := tallies(t)
		well := len(now) == len(kinds())*len(services())
		for key, n := range now {
			well = well && n.Calls > before[key].Calls+50 && n.Failed == before[key].Failed
		}
		if !well {
			before = now
			pause(t)
		}
		return well
	})
}

// pause keeps kubectl from being called too often.
func pause(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	<-timer.C
}

// tallies reads what the callers printed last, by client and service.
func tallies(t *testing.T) map[string]tally {
	t.Helper()
	found := map[string]tally{}
	for _, container := range []string{"caller", "node"} {
		out := kubectl(t, "", "-n", callersNamespace, "logs", "callers", "-c", container, "--tail=30")
		for _, line := range strings.Split(out, "\n") {
			var n tally
			if json.Unmarshal([]byte(line), &n) == nil && n.Client != "" {
				found[n.Client+" "+n.Service] = n
			}
		}
	}
	return found
}

// settled waits until the calls that were under way have ended, and returns the tallies.
func settled(t *testing.T) map[string]tally {
	t.Helper()
	begun := time.Now()
	testkit.Eventually(t, time.Minute, func() bool { // a call has ten seconds
		if time.Since(begun) > 13*time.Second {
			return true
		}
		pause(t)
		return false
	})
	return tallies(t)
}

// compare prints a row for each client and one of the services, and fails the test when
// a call failed.
func compare(t *testing.T, what string, before, after map[string]tally, of ...string) {
	t.Helper()
	for _, service := range of {
		for _, kind := range kinds() {
			b, a := before[kind+" "+service], after[kind+" "+service]
			calls, failed := a.Calls-b.Calls, a.Failed-b.Failed
			t.Logf("figure: | %-34s | %-9s | %-11s | %6d | %6d | %3d |", what, service, kind, calls, failed,
				a.Outage-b.Outage)
			if failed > 0 || calls < 100 {
				t.Errorf("%s, %s of %s: %d of %d calls failed; the first ever: %s", what, kind, service, failed, calls,
					a.First)
			}
		}
	}
}

func tableHead(t *testing.T) {
	t.Helper()
	t.Logf("figure: | %-34s | %-9s | %-11s | %6s | %6s | %3s |", "what", "service", "client", "calls", "failed",
		"seconds of outage")
}

// podIPs returns the addresses of the pods of a service that are ready and not ending.
func podIPs(t *testing.T, service string) []string {
	t.Helper()
	out := kubectl(t, "", "-n", namespace, "get", "pods", "-l",
		"app.kubernetes.io/component=server,app.kubernetes.io/name="+service, "-o",
		`go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{$ip := .status.podIP}}`+
			`{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$ip}} {{end}}{{end}}`+
			`{{end}}{{end}}`)
	return strings.Fields(out)
}

func scale(t *testing.T, replicas int, of ...string) {
	t.Helper()
	for _, s := range of {
		kubectl(t, "", "-n", namespace, "scale", "deployment/"+s, fmt.Sprintf("--replicas=%d", replicas))
	}
	for _, s := range of {
		kubectl(t, "", "-n", namespace, "rollout", "status", "deployment/"+s, "--timeout=10m")
	}
	testkit.Eventually(t, 3*time.Minute, func() bool {
		for _, s := range of {
			if len(podIPs(t, s)) != replicas {
				pause(t)
				return false
			}
		}
		return true
	})
}

func restart(t *testing.T, of ...string) {
	t.Helper()
	for _, s := range of {
		kubectl(t, "", "-n", namespace, "rollout", "restart", "deployment/"+s)
	}
	for _, s := range of {
		kubectl(t, "", "-n", namespace, "rollout", "status", "deployment/"+s, "--timeout=20m")
	}
}
