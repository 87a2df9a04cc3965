package console

import (
	"encoding/json"
	"net/http"
)

// row is a point of a chart.
type row struct {
	// Time in Unix seconds where it is drawn, Label that of the interval that it is of.
	Time, Label int64
	// Values to draw, one a series: decimals, numbers, or nil.
	Values []any
	// Text says what they are.
	Text string
}

// MarshalJSON makes an array of the fields, in their order.
func (r row) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{r.Time, r.Label, r.Values, r.Text})
}

// chartData is the input of the charts. An hourly or a daily series is empty if there is nothing to draw.
type chartData struct {
	Value      ranges      `json:"value"`
	Growth     ranges      `json:"growth"`
	Drawdown   ranges      `json:"drawdown"`
	Allocation stackedRows `json:"allocation"`
}

type ranges struct {
	Names  []string `json:"names"`
	Hourly []row    `json:"hourly"`
	Daily  []row    `json:"daily"`
}

type stackedRows struct {
	Names   []string `json:"names"`
	Colours []int    `json:"colours"`
	Daily   []row    `json:"daily"`
}

// serveCharts answers with the points of all charts.
func (c *Console) serveCharts(w http.ResponseWriter, r *http.Request) {
	v := c.viewerOf(r)
	w.Header().Set("Purser-Viewer", viewerKey(v))
	sections := c.panelStates(r.Context(), v, currencyOf(r), "timeline", "growth", "allocation", "holdings")
	body, err := json.Marshal(chartsOf(sections))
	if err != nil {
		http.Error(w, "the charts could not be encoded", http.StatusInternalServerError)
		return
	}
	serveCached(w, r, "application/json", body)
}

func chartsOf(sections map[string][]state) chartData {
	var d chartData
	for _, s := range sections["timeline"] {
		t, _ := s.Data.(timeline)
		d.Value = ranges{Names: []string{"Value"}, Hourly: t.rows(t.Hourly), Daily: t.rows(t.Daily)}
	}
	for _, s := range sections["growth"] {
		g, _ := s.Data.(growth)
		names := []string{"Portfolio"}
		if g.Benchmark != "" {
			names = append(names, g.Benchmark)
		}
		d.Growth.Names, d.Drawdown.Names = names, []string{"Drawdown"}
		d.Growth.Daily, d.Drawdown.Daily = growthRows(g.Daily, g.Benchmark)
		d.Growth.Hourly, d.Drawdown.Hourly = growthRows(g.Hourly, g.Benchmark)
	}
	history := historyOf(sections)
	d.Allocation.Daily = history.rows()
	for _, t := range history.Tokens {
		d.Allocation.Names = append(d.Allocation.Names, t.Label)
		d.Allocation.Colours = append(d.Allocation.Colours, t.Colour)
	}
	return d
}

func (t timeline) rows(points []point) []row {
	rows := make([]row, 0, len(points))
	for _, p := range points {
		rows = append(rows, row{Time: p.Time.Unix(), Label: p.Time.Unix(), Values: []any{p.Value},
			Text: fiat(p.Value) + " " + t.Currency})
	}
	return rows
}
