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

// Replicas that are added get their share of the calls of clients that balance within 30 s
// of being ready.
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
		if !ok || took > 32*time.Second { // read every two seconds
			t.Errorf("%s: %v has no share of the calls within 30 s: %v", kind, added, last[kind+" "+service].Peers)
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
