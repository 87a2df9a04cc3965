package cluster_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// A release whose secrets are wrong replaces no pod that works: its pods never become
// Ready and say once what is missing, and no call fails. With the right secrets it goes on.
func TestPodsThatCantWorkReplaceNone(t *testing.T) {
	needCluster(t)
	ca := setUp(t)
	scale(t, 1, services()...)
	startCallers(t, ca)
	psql(t, "postgres", "SELECT 'CREATE DATABASE purser_empty OWNER purser_wallet' "+
		"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'purser_empty') \\gexec")
	for _, tc := range []struct {
		name, service, key string
		value              func(right string) string
		missing            string // what the log names
	}{
		{"a wrong key-encryption key", "auth", "kek", func(string) string { return random() }, `"missing":"key_ring"`},
		{"a wrong database password", "portfolio", "database-url", func(string) string {
			return databaseURL("portfolio", "wrong")
		}, `"missing":"postgres"`},
		{"a schema that isn't there", "wallet", "database-url", func(right string) string {
			return strings.Replace(right, "/purser_wallet?", "/purser_empty?", 1)
		}, `"missing":"schema"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			working := podIPs(t, tc.service)
			right := secretValue(t, tc.service+"-secrets", tc.key)
			before := settled(t)
			setSecret(t, tc.service+"-secrets", tc.key, tc.value(right))
			restored := false
			restore := func() {
				setSecret(t, tc.service+"-secrets", tc.key, right)
				restored = true
			}
			defer func() {
				if !restored {
					restore()
				}
			}()
			kubectl(t, "", "-n", namespace, "rollout", "restart", "deployment/"+tc.service)
			var logged string
			testkit.Eventually(t, 3*time.Minute, func() bool {
				logged = logsOfUnready(t, tc.service)
				if !strings.Contains(logged, tc.missing) {
					pause(t)
					return false
				}
				return true
			})
			for begun := time.Now(); time.Since(begun) < 40*time.Second; { // a rollout took 7 s without the gate
				pause(t)
				if now := podIPs(t, tc.service); fmt.Sprint(now) != fmt.Sprint(working) {
					t.Fatalf("pods %v serve, want only those before, %v", now, working)
				}
			}
			if n := strings.Count(logsOfUnready(t, tc.service), tc.missing); n != 1 {
				t.Errorf("the log has %q %d times, want once", tc.missing, n)
			}
			compare(t, tc.name, before, settled(t), tc.service)
			before = settled(t)
			restore()
			restart(t, tc.service)
			compare(t, "then the right one", before, settled(t), tc.service)
		})
	}
}

// psql runs a statement in a database as its superuser.
func psql(t *testing.T, database, statement string) {
	t.Helper()
	kubectl(t, statement, "-n", storesNamespace, "exec", "-i", "postgres-0", "--", "env", "PGPASSWORD=test-only",
		"psql", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1")
}

func secretValue(t *testing.T, name, key string) string {
	t.Helper()
	return kubectl(t, "", "-n", namespace, "get", "secret", name, "-o",
		fmt.Sprintf(`go-template={{index .data %q | base64decode}}`, key))
}

func setSecret(t *testing.T, name, key, value string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"data": map[string]string{
		key: base64.StdEncoding.EncodeToString([]byte(value))}})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "-n", namespace, "patch", "secret", name, "-p", string(patch))
}

// logsOfUnready returns what the pods of a service that are not ready have logged.
func logsOfUnready(t *testing.T, service string) (logs string) {
	t.Helper()
	names := kubectl(t, "", "-n", namespace, "get", "pods", "-l",
		"app.kubernetes.io/component=server,app.kubernetes.io/name="+service, "-o",
		`go-template={{range .items}}{{$name := .metadata.name}}{{if not .metadata.deletionTimestamp}}`+
			`{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "False")}}{{$name}} {{end}}{{end}}`+
			`{{end}}{{end}}`)
	for _, name := range strings.Fields(names) {
		out, err := tryKubectl(t, "", "-n", namespace, "logs", name)
		if err == nil {
			logs += out
		}
	}
	return logs
}
