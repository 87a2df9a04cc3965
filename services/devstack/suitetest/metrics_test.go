package suitetest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

var (
	documentedCounter = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| counter \\|")
	secondsBucket     = regexp.MustCompile(`(?m)^(\w+_seconds)_bucket\{.*?le="([^"]+)"`)
	exportedCounter   = regexp.MustCompile(`(?m)^# TYPE (\w+) counter$`)
)

// What services export is read as Prometheus does. A counter that begins with its first error has no rate then.
func TestCountersBeginAtZeroAndHistogramsTellMillisecondsApart(t *testing.T) {
	t.Parallel()
	o := suite.Options{Extra: map[string][]string{}}
	admin := map[string]string{}
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		admin[service] = unusedAddr(t)
		o.Extra[service] = []string{"PURSER_ADMIN_ADDR=" + admin[service]}
	}
	b := startInfrastructure(t, o)
	e := startPrograms(t, b)
	exported := map[string]bool{}
	for _, addr := range admin { // nobody has called yet
		for _, name := range exportedCounter.FindAllStringSubmatch(scrape(t, addr), -1) {
			exported[name[1]] = true
		}
	}
	page, err := os.ReadFile(filepath.Join(checkout, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	counters := documentedCounter.FindAllStringSubmatch(string(page), -1)
	if len(counters) < 20 {
		t.Fatalf("%d counters in docs/metrics.md: the search is wrong", len(counters))
	}
	for _, name := range counters {
		// Those of TLS begin with TLS, which is tested where it is on.
		if !exported[name[1]] && !strings.HasPrefix(name[1], "tls_") {
			t.Errorf("%s does not exist before it counts", name[1])
		}
	}

	c := dial(t, e)
	ctx, _ := signIn(t, c)
	addWallet(t, ctx, c, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[0]))
	if _, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	first := map[string]float64{}
	for _, addr := range admin {
		for _, bucket := range secondsBucket.FindAllStringSubmatch(scrape(t, addr), -1) {
			bound, err := strconv.ParseFloat(bucket[2], 64)
			if err != nil {
				t.Fatal(bucket, err)
			}
			if lowest, seen := first[bucket[1]]; !seen || bound < lowest {
				first[bucket[1]] = bound
			}
		}
	}
	for _, name := range []string{"rpc_server_call_duration_seconds", "rpc_client_call_duration_seconds",
		"redis_command_seconds", "cache_load_duration_seconds", "dependency_latency_seconds"} {
		if _, seen := first[name]; !seen {
			t.Errorf("%s is not exported", name)
		}
	}
	for name, bound := range first {
		if bound > 0.005 {
			t.Errorf("the first bucket of %s ends at %g s", name, bound)
		}
	}
}

// unusedAddr is an address that nothing listens on.
func unusedAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func scrape(t *testing.T, admin string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return string(text)
}
