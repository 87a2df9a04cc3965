package policy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// alertRules is a Prometheus file of alerting rules.
type alertRules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Record      string            `yaml:"record"`
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

var (
	promFunction = regexp.MustCompile(
		`\b(max|min|sum|avg|topk|increase|rate|absent|histogram_quantile|clamp_min|and|or|time)\b`)
	promLabels = regexp.MustCompile(`\{[^}]*\}|\bby \([^)]*\)`)
	promRange  = regexp.MustCompile(`\[(\d+[smhd]|\$__rate_interval)\]`)
	promName   = regexp.MustCompile(`[a-zA-Z_][\w:]*`)
)

// metricsIn are the names of the metrics in an expression of PromQL.
func metricsIn(expr string) []string {
	expr = promLabels.ReplaceAllString(promRange.ReplaceAllString(expr, ""), "")
	return promName.FindAllString(promFunction.ReplaceAllString(expr, ""), -1)
}

// series are the names under which Prometheus has the metrics, with those of histograms.
func series(metrics []string) []string {
	all := slices.Clone(metrics)
	for _, name := range metrics {
		all = append(all, name+"_bucket", name+"_count", name+"_sum")
	}
	return all
}

// alertViolations checks alerting rules against the metrics that exist and the page that documents
// each alert.
func alertViolations(text []byte, metrics []string, page string) (found []string) {
	var rules alertRules
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		return []string{err.Error()}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				metrics = append(metrics, r.Record)
			}
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				r.Alert = r.Record
			} else if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				found = append(found, fmt.Sprintf("%s: an alert needs a name, a severity and a summary", r.Alert))
			}
			if r.Record == "" && !strings.Contains(page, "`"+r.Alert+"`") {
				found = append(found, r.Alert+": the page has no section on it")
			}
			names := metricsIn(r.Expr)
			if len(names) == 0 {
				found = append(found, r.Alert+": names no metric")
			}
			for _, name := range names {
				if !slices.Contains(metrics, name) {
					found = append(found, fmt.Sprintf("%s: there is no metric %s", r.Alert, name))
				}
			}
		}
	}
	return found
}

func TestAlertsUseExistingMetricsAndAreDocumented(t *testing.T) {
	t.Parallel()
	metrics := existingSeries(t)
	text, err := os.ReadFile(filepath.Join(root(t), "docs/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var pages string
	for _, name := range []string{"docs/signing-keys.md", "docs/deletions.md", "docs/observability.md"} {
		page, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		pages += string(page)
	}
	report(t, alertViolations(text, metrics, pages))
}

// existingSeries are all that the code emits.
func existingSeries(t *testing.T) []string {
	t.Helper()
	var metrics []string
	for _, s := range sources(t, ".go") {
		if s.isTest() {
			continue
		}
		m, _, _, err := signalsIn(s)
		if err != nil {
			t.Fatal(err)
		}
		metrics = append(metrics, m...)
	}
	// Prometheus' own, those of the conventions of RPC, and those of Go's client.
	return series(append(metrics, "up", "rpc_server_call_duration_seconds", "rpc_client_call_duration_seconds",
		"go_goroutines", "go_memstats_heap_inuse_bytes", "process_cpu_seconds_total",
		"process_resident_memory_bytes"))
}

// TestAnAlertOnAMissingMetricIsReported is the control of the test above.
func TestAnAlertOnAMissingMetricIsReported(t *testing.T) {
	rule := func(expr string) []byte {
		return []byte("groups: [{name: g, rules: [{alert: A, expr: '" + expr +
			"', labels: {severity: info}, annotations: {summary: s}}]}]")
	}
	for text, want := range map[string]int{
		string(rule("max(increase(a_total[5m])) > 2")):  0,
		string(rule(`max by (x) (a_total{y="z"}) > 2`)): 0,
		string(rule("max(b_total) > 2")):                1,
		string(rule("1 > 2")):                           1,
		string(rule("a:b:c > 2")):                       1,
		strings.Replace(string(rule("max(a:b:c) > 2")), "[{alert", "[{record: a:b:c, expr: a_total}, {alert", 1): 0,
		"groups: [{name: g, rule: []}]": 1,
		"groups: [":                     1,
		"groups: [{name: g, rules: [{alert: A, expr: a_total}]}]":                    1,
		strings.Replace(string(rule("max(a_total) > 2")), "alert: A", "alert: B", 1): 1,
	} {
		if got := alertViolations([]byte(text), []string{"a_total"}, "`A`"); len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Each rule fires when it is to, and not in health, by Prometheus' own evaluation.
func TestAlertsFireWhenTheyAreToAndNotOtherwise(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed, so the alert rules are not evaluated: run `apt-get install prometheus`")
	}
	for _, args := range [][]string{
		{"check", "rules", filepath.Join(root(t), "docs/alerts.yaml")},
		{"test", "rules", "testdata/alerts_test.yaml", "testdata/objectives_test.yaml"},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// TestEveryAlertIsTested compares the tests for promtool with the rules.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	type ruleTests struct {
		Tests []struct {
			Rules []struct {
				Name string `yaml:"alertname"`
				Want []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	var tests, ofDays ruleTests
	var rules alertRules
	for path, into := range map[string]any{"testdata/alerts_test.yaml": &tests,
		"testdata/objectives_test.yaml": &ofDays, filepath.Join(root(t), "docs/alerts.yaml"): &rules} {
		text, err := os.ReadFile(path)
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range append(tests.Tests, ofDays.Tests...) {
		for _, r := range test.Rules {
			fires[r.Name] = fires[r.Name] || len(r.Want) > 0
			silent[r.Name] = silent[r.Name] || len(r.Want) == 0
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
				t.Errorf("%s: tested firing: %v, silent: %v", r.Alert, fires[r.Alert], silent[r.Alert])
			}
		}
	}
}
