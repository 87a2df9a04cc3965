package cluster_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// The prod overlay is released, and its services are restarted while four kinds of clients
// call each of them 50 times a second (CALLER_RATE). No call fails. REPLICAS chooses the
// numbers of replicas, "1 3" by default.
func TestRollingRestartsFailNoCall(t *testing.T) {
	needCluster(t)
	ca := setUp(t)
	replicas := os.Getenv("REPLICAS")
	if replicas == "" {
		replicas = "1 3"
	}
	tableHead(t)
	for i, n := range strings.Fields(replicas) {
		var number int
		if _, err := fmt.Sscan(n, &number); err != nil {
			t.Fatal(err)
		}
		scale(t, number, services()...)
		if i == 0 {
			startCallers(t, ca)
		}
		for _, s := range services() {
			before := settled(t)
			restart(t, s)
			compare(t, n+" replicas, one service", before, settled(t), s)
		}
		before := settled(t)
		restart(t, services()...)
		compare(t, n+" replicas, all services at once", before, settled(t), services()...)
	}
}

// Replicas that are added get their share of the calls of clients that balance: of
// Purser's within 15 s of being ready, of others when they ask DNS again.
func TestNewReplicasGetTheirShare(t *testing.T) {
	needCluster(t)
	ca := setUp(t)
	const service = "wallet"
	scale(t, 1, services()...)
	startCallers(t, ca)
	old := podIPs(t, service)
	before := tallies(t)
	kubectl(t, "", "-n", namespace, "scale", "deployment/"+service, "--replicas=3")
	testkit.Eventually(t, 3*time.Minute, func() bool { return len(podIPs(t, service)) == 3 })
	ready := time.Now()
	var added []string
	for _, ip := range podIPs(t, service) {
		if ip != old[0] {
			added = append(added, ip)
		}
	}
	shares := map[string]time.Duration{}
	last := tallies(t)
	// gRPC's own resolvers ask DNS at most every 30 s, and the tallies are read every two.
	within := map[string]time.Duration{"purser": 15 * time.Second, "round_robin": 36 * time.Second,
		"node": 36 * time.Second}
	for time.Since(ready) < 40*time.Second && len(shares) < 3 {
		pause(t)
		now := tallies(t)
		for _, kind := range []string{"purser", "round_robin", "node"} {
			if _, ok := shares[kind]; !ok && hasShare(last[kind+" "+service], now[kind+" "+service], added) {
				shares[kind] = time.Since(ready)
			}
		}
		last = now
	}
	for _, kind := range []string{"purser", "round_robin", "node"} {
		took, ok := shares[kind]
		t.Logf("figure: %s gives two new replicas a fifth of its calls each after %s", kind, took.Round(time.Second))
		if most := within[kind]; !ok || took > most {
			t.Errorf("%s: %v has no share of the calls within %s: %v", kind, added, most,
				last[kind+" "+service].Peers)
		}
	}
	compare(t, "scaled from 1 to 3", before, settled(t), service)
}

// hasShare reports whether each of the addresses answered a fifth of the calls since before.
func hasShare(before, now tally, ips []string) bool {
	calls := now.Calls - before.Calls
	for _, ip := range ips {
		if (now.Peers[ip+":9000"]-before.Peers[ip+":9000"])*5 < calls {
			return false
		}
	}
	return calls > 0
}

// setUp releases the overlay once for all tests, and returns the certificate of the
// authority.
func setUp(t *testing.T) string {
	t.Helper()
	deployStores(t)
	ca := createSecrets(t)
	writeOverlay(t)
	begun := time.Now()
	out, err := release(t)
	if err != nil {
		t.Fatalf("make deploy: %v\n%s", err, out)
	}
	t.Logf("make deploy took %s", time.Since(begun).Round(time.Second))
	return ca
}

// The previous release serves on the schema of the next one. While a migration adds a
// column to every table, a statement that reads all columns fails once on each connection
// that has prepared it; its caller is told UNAVAILABLE, and clients that repeat calls don't
// notice. No other call fails, and none after that.
func TestCallsGoOnAfterAMigrationAddedColumns(t *testing.T) {
	needCluster(t)
	ca := setUp(t)
	startCallers(t, ca)
	onTables := func(change string) {
		t.Helper()
		for _, s := range services() {
			kubectl(t, "", "-n", storesNamespace, "exec", "postgres-0", "--", "env", "PGPASSWORD=test-only", "psql",
				"-h", "127.0.0.1", "-U", "postgres", "-d", "purser_"+s, "-v", "ON_ERROR_STOP=1", "-c",
				`DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS name FROM pg_class c
				JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
				AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE 'goose%' LOOP
				EXECUTE 'ALTER TABLE ' || r.name || ' `+change+`'; END LOOP; END $$`)
		}
	}
	defer onTables("DROP COLUMN IF EXISTS of_a_later_release")
	before := settled(t)
	onTables("ADD COLUMN IF NOT EXISTS of_a_later_release text")
	after := settled(t)
	calls, failed := 0, 0
	for key, a := range after {
		calls, failed = calls+a.Calls-before[key].Calls, failed+a.Failed-before[key].Failed
		if a.Failed > before[key].Failed && before[key].First == "" &&
			!strings.Contains(a.First, "the database was changed meanwhile") {
			t.Errorf("%s: %s", key, a.First)
		}
	}
	t.Logf("figure: a migration adds columns: %d of %d calls had to be repeated", failed, calls)
	if failed > calls/100 {
		t.Error("these are too many")
	}
	compare(t, "after a migration added columns", after, settled(t), services()...)
}
