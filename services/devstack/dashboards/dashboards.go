// Package dashboards describes the Grafana dashboards of the services and writes them,
// with the rules of docs/alerts.yaml, into the kustomize component
// k8s/components/monitoring. Run it after a change of either:
//
//	go run ./services/devstack/cmd/dashboards
package dashboards

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// Dashboard is one page of Grafana.
type Dashboard struct {
	// Name of its file, and the end of its uid, such as wallet.
	Name   string
	Title  string
	Panels []Panel
}

// Panel is a graph over time.
type Panel struct {
	Title string
	// Unit as Grafana names it: s, short, ops, bytes, percentunit.
	Unit    string
	Queries []Query
}

// Query is one expression of PromQL and the legend of its series. $namespace stands for
// the chosen namespace and $__rate_interval for a range.
type Query struct{ Expr, Legend string }

// Component is the folder that the files are for, from the top of the checkout.
const Component = "k8s/components/monitoring"

// RulesHeader is what stands before the rules of docs/alerts.yaml in the component.
const RulesHeader = `# Made from docs/alerts.yaml by: go run ./services/devstack/cmd/dashboards
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: purser
  labels: {app.kubernetes.io/part-of: purser}
spec:
`

// Files returns what the component is made of that is generated, by path from the top of
// the checkout; alerts is the text of docs/alerts.yaml.
func Files(alerts string) (map[string]string, error) {
	_, groups, ok := strings.Cut(alerts, "\ngroups:\n")
	if !ok {
		return nil, fmt.Errorf("docs/alerts.yaml has no line %q", "groups:")
	}
	rules := strings.Builder{}
	rules.WriteString(RulesHeader + "  groups:\n")
	for line := range strings.Lines(groups) {
		if strings.TrimSpace(line) != "" {
			line = "  " + line
		}
		rules.WriteString(line)
	}
	files := map[string]string{Component + "/rules.yaml": rules.String()}
	for _, d := range All() {
		text, err := d.JSON()
		if err != nil {
			return nil, err
		}
		files[filepath.Join(Component, "dashboards", d.Name+".json")] = string(text)
	}
	return files, nil
}

type object = map[string]any

// JSON is the dashboard as Grafana reads it.
func (d Dashboard) JSON() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "$datasource"}
	panels := make([]object, 0, len(d.Panels))
	for i, p := range d.Panels {
		var targets []object
		for j, q := range p.Queries {
			targets = append(targets, object{"refId": string(rune('A' + j)), "datasource": source, "expr": q.Expr,
				"legendFormat": q.Legend, "exemplar": strings.Contains(q.Expr, "_seconds_bucket")})
		}
		panels = append(panels, object{
			"id": i + 1, "type": "timeseries", "title": p.Title, "datasource": source, "targets": targets,
			"gridPos":     object{"h": 8, "w": 8, "x": 8 * (i % 3), "y": 8 * (i / 3)},
			"fieldConfig": object{"defaults": object{"unit": p.Unit, "min": 0}, "overrides": []any{}},
			"options": object{"legend": object{"displayMode": "list", "placement": "bottom"},
				"tooltip": object{"mode": "multi", "sort": "desc"}},
		})
	}
	text, err := json.MarshalIndent(object{
		"uid": "purser-" + d.Name, "title": d.Title, "tags": []string{"purser"}, "schemaVersion": 39,
		"editable": true, "refresh": "30s", "time": object{"from": "now-3h", "to": "now"}, "panels": panels,
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
			{"name": "namespace", "label": "Namespace", "type": "query", "datasource": source, "refresh": 2,
				"query": `label_values(up{job=~"purser-.*"}, namespace)`},
		}},
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.Name, err)
	}
	return append(text, '\n'), nil
}
