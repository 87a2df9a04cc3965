package policy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/devstack/dashboards"
)

func TestTheMonitoringComponentIsFresh(t *testing.T) {
	t.Parallel()
	alerts, err := os.ReadFile(filepath.Join(root(t), "docs/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := dashboards.Files(string(alerts))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		if got, err := os.ReadFile(filepath.Join(root(t), path)); err != nil || string(got) != want {
			t.Errorf("%s is not fresh: run go run ./services/devstack/cmd/dashboards (%v)", path, err)
		}
	}
	if _, err := dashboards.Files("no rules"); err == nil {
		t.Error("rules without groups were taken")
	}
}

// dashboardViolations checks the queries of a dashboard against the series that exist.
func dashboardViolations(d dashboards.Dashboard, existing []string) (found []string) {
	for _, p := range d.Panels {
		for _, q := range p.Queries {
			names := metricsIn(q.Expr)
			if len(names) == 0 {
				found = append(found, d.Name+": "+p.Title+": names no metric")
			}
			for _, name := range names {
				if !slices.Contains(existing, name) {
					found = append(found, d.Name+": "+p.Title+": there is no metric "+name)
				}
			}
			if !strings.Contains(q.Expr, `namespace="$namespace"`) {
				found = append(found, d.Name+": "+p.Title+": is not of the chosen namespace")
			}
		}
	}
	return found
}

func TestDashboardsUseExistingMetrics(t *testing.T) {
	t.Parallel()
	existing := append(existingSeries(t), "purser:calls_failed:ratio_rate1h", "purser:calls_slow:ratio_rate1h")
	for _, d := range dashboards.All() {
		report(t, dashboardViolations(d, existing))
	}
	// The control.
	for expr, want := range map[string]int{
		`sum by (x) (rate(a_total{namespace="$namespace"}[$__rate_interval]))`: 0,
		`sum by (x) (rate(b_total{namespace="$namespace"}[$__rate_interval]))`: 1,
		`a_total`:   1,
		`vector(1)`: 2,
	} {
		d := dashboards.Dashboard{Panels: []dashboards.Panel{{Queries: []dashboards.Query{{Expr: expr}}}}}
		if got := dashboardViolations(d, []string{"a_total"}); len(got) != want {
			t.Errorf("%s: %v", expr, got)
		}
	}
}

var rpcReturns = regexp.MustCompile(`(?m)^  rpc (\w+)\(.*?\) returns \((stream )?`)

// What is a stream takes as long as its caller likes: none is a quick call, and the alerts and dashboards agree on it.
func TestNoStreamIsAQuickCall(t *testing.T) {
	t.Parallel()
	pattern := strings.TrimSuffix(strings.TrimPrefix(dashboards.Quick, `rpc_method!~"`), `"`)
	slow := regexp.MustCompile("^(?:" + pattern + ")$")
	streams, quick := 0, 0
	for _, s := range sources(t, ".proto") {
		if !s.under("proto/purser") {
			continue
		}
		for _, rpc := range rpcReturns.FindAllStringSubmatch(s.text, -1) {
			excluded := slow.MatchString("purser.x.v1.XService/" + rpc[1])
			if rpc[2] != "" {
				streams++
				if !excluded {
					t.Errorf("%s is a stream and counts as a quick call", rpc[1])
				}
			} else if !excluded {
				quick++
			}
		}
	}
	if streams < 5 || quick < 50 {
		t.Errorf("%d streams and %d quick calls were found: the search is wrong", streams, quick)
	}
	alerts, err := os.ReadFile(filepath.Join(root(t), "docs/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(alerts), dashboards.Quick); got != 10 {
		t.Errorf("docs/alerts.yaml selects quick calls as the dashboards do %d times, want 10", got)
	}
}
