package suitetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/dashboards"
	"github.com/purserhq/purser/services/devstack/suite"
)

// withoutData are the queries that return nothing in the test below, and why.
var withoutData = map[string]string{
	"stores: Locks: time waited: p50 {{job}}":                            "nothing here takes a lock",
	"stores: Locks: time waited: p99 {{job}}":                            "nothing here takes a lock",
	"wallet: Rows of the history without a partition: {{job}} {{table}}": "make_partitions runs once an hour",
	"wallet: Months of the history ahead: {{job}} {{table}}":             "make_partitions runs once an hour",
}

// Each query of each dashboard returns something from a Prometheus that scrapes the programs, and a slow call leads to
// its trace.
func TestEveryQueryOfTheDashboardsReturnsDataFromTheRunningSuite(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed, so the dashboards are not queried: run `apt-get install prometheus`")
	}
	o := suite.Options{Extra: map[string][]string{}}
	metrics := map[string]string{}
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		metrics[service] = unusedAddr(t)
		o.Extra[service] = []string{"PURSER_METRICS_ADDR=" + metrics[service]}
	}
	o.Extra["wallet"] = append(o.Extra["wallet"], "PURSER_SYNC_CRON=* * * * *")
	b := startInfrastructure(t, o)
	e := startPrograms(t, b)
	c := dial(t, e)
	plain := func(addr string) *grpc.ClientConn { // a client that makes no spans
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	unknown, valued := plain(e.Wallet), portfoliov1.NewPortfolioServiceClient(plain(e.Portfolio))
	prometheus := startPrometheus(t, program, metrics)
	ctx, _ := signIn(t, c)
	addWallet(t, ctx, c, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[0]))
	if _, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	const trace = "0123456789abcdef0123456789abcdef"
	traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-0123456789abcdef-01")

	waiting := map[string]string{}
	for _, d := range dashboards.All() {
		for _, p := range d.Panels {
			for _, q := range p.Queries {
				name := d.Name + ": " + p.Title + ": " + q.Legend
				if _, excepted := withoutData[name]; !excepted {
					waiting[name] = strings.NewReplacer("$namespace", "test", "$__rate_interval", "1m").Replace(q.Expr)
				}
			}
		}
	}
	ticker, exemplified := time.NewTicker(time.Second), false
	defer ticker.Stop()
	for end := time.Now().Add(3 * time.Minute); len(waiting) > 0 || !exemplified; <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("an exemplar: %t; queries without data: %s", exemplified, lines(waiting))
		}
		if _, err := valued.GetValuation(traced, &portfoliov1.GetValuationRequest{}); err != nil {
			t.Fatal(err)
		}
		_ = unknown.Invoke(ctx, "/purser.wallet.v1.WalletService/Nothing", &emptypb.Empty{}, &emptypb.Empty{})
		for name, expr := range waiting {
			if len(ask(t, prometheus, "query", url.Values{"query": {expr}})) > 0 {
				delete(waiting, name)
			}
		}
		for _, series := range ask(t, prometheus, "query_exemplars", url.Values{
			"query": {`rpc_server_call_duration_seconds_bucket{rpc_method=~".*/GetValuation"}`},
			"start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Unix() + 1)}}) {
			exemplified = exemplified || strings.Contains(string(series), `"trace_id":"`+trace+`"`)
		}
	}
	// The control: a query of nothing that exists has no data.
	if got := ask(t, prometheus, "query", url.Values{"query": {"no_such_metric"}}); len(got) != 0 {
		t.Error(got)
	}
}

// startPrometheus runs a Prometheus with the rules of docs/alerts.yaml until the test ends, and returns its address.
func startPrometheus(t *testing.T, program string, metrics map[string]string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n",
		absolute(t, filepath.Join(checkout, "docs/alerts.yaml")))
	for service, addr := range metrics {
		fmt.Fprintf(&b, "  - {job_name: purser-%s, static_configs: [{targets: [%q], labels: {namespace: test}}]}\n",
			service, addr)
	}
	dir, addr := t.TempDir(), unusedAddr(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	run := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+dir, "--web.listen-address="+addr,
		"--enable-feature=exemplar-storage")
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM)
		_ = run.Wait()
		if t.Failed() {
			t.Logf("the log of Prometheus ends with\n%s", log.String()[max(0, log.Len()-2000):])
		}
	})
	return addr
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask returns the series of an answer of Prometheus' API; none while it is not up.
func ask(t *testing.T, addr, what string, query url.Values) []json.RawMessage {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+addr+"/api/v1/"+what+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Error string          `json:"error"`
		Data  json.RawMessage `json:"data"`
	}
	err = json.NewDecoder(answer.Body).Decode(&body)
	if err != nil || answer.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	if body.Error != "" {
		t.Fatalf("%s %v: %s", what, query, body.Error)
	}
	var result struct {
		Result []json.RawMessage `json:"result"`
	}
	var list []json.RawMessage
	if json.Unmarshal(body.Data, &list) == nil {
		return list
	}
	if err := json.Unmarshal(body.Data, &result); err != nil {
		t.Fatal(err)
	}
	return result.Result
}

func lines(queries map[string]string) string {
	var b strings.Builder
	for name, expr := range queries {
		fmt.Fprintf(&b, "\n%s\n\t%s", name, expr)
	}
	return b.String()
}
