package performance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// pointLines are points as text, one a line.
func pointLines(points []performance.Point) string {
	text := func(r performance.Ratio) string {
		if r.Unavailable != "" {
			return string(r.Unavailable)
		}
		return fmt.Sprintf("%.4f", r.Figure)
	}
	var lines []string
	for _, p := range points {
		line := fmt.Sprintf("%s %s %s", p.End.Format("01-02"), text(p.TimeWeighted), text(p.Drawdown))
		if p.Benchmark != nil {
			line += " " + text(*p.Benchmark)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestGrowthHasAPointForEachIntervalAndSaysWhatIsUnknown(t *testing.T) {
	noon := func(day int) time.Time { return on(2026, 1, day).Add(12 * time.Hour) }
	var bounds []time.Time
	for day := 1; day <= 6; day++ {
		bounds = append(bounds, on(2026, 1, day))
	}
	prices := []*apd.Decimal{dec(t, "10"), dec(t, "12"), nil, dec(t, "5")}
	for name, c := range map[string]struct {
		marks  []mark
		prices []*apd.Decimal
		want   string
	}{
		"a day without a snapshot, and an hour without a price": {[]mark{{noon(1), "100", ""}, {noon(2), "150", ""},
			{noon(3), "250", "100"}, {noon(5), "125", ""}}, prices, `01-02 0.0000 0.0000 0.0000
01-03 0.5000 0.0000 0.2000
01-04 0.5000 0.0000 NO_BENCHMARK_PRICE
01-05 NO_SNAPSHOTS NO_SNAPSHOTS NO_SNAPSHOTS
01-06 -0.2500 -0.5000 -0.5000`},
		"a snapshot at midnight is of the day that ends": {[]mark{{noon(3), "100", ""},
			{on(2026, 1, 5), "80", ""}}, nil, `01-04 0.0000 0.0000
01-05 -0.2000 -0.2000
01-06 NO_SNAPSHOTS NO_SNAPSHOTS`},
		"a day that begins before the range": {[]mark{{noon(1).AddDate(0, 0, -3), "100", ""}, {noon(4), "300", ""}},
			nil, `01-02 NO_SNAPSHOTS NO_SNAPSHOTS
01-03 NO_SNAPSHOTS NO_SNAPSHOTS
01-04 NO_SNAPSHOTS NO_SNAPSHOTS
01-05 2.0000 0.0000
01-06 NO_SNAPSHOTS NO_SNAPSHOTS`},
		"dust": {[]mark{{noon(3), "0.50", ""}, {noon(4), "0.90", ""}}, nil, `01-04 0.0000 0.0000
01-05 VALUE_BELOW_THRESHOLD VALUE_BELOW_THRESHOLD
01-06 NO_SNAPSHOTS NO_SNAPSHOTS`},
		"more came than there is": {[]mark{{noon(3), "100", ""}, {noon(4), "110", ""}, {noon(5), "10", "200"}}, nil,
			`01-04 0.0000 0.0000
01-05 0.1000 0.0000
01-06 FLOW_EXCEEDS_VALUE FLOW_EXCEEDS_VALUE`},
		"one snapshot": {[]mark{{noon(5), "100", ""}}, nil, `01-06 PERIOD_TOO_SHORT PERIOD_TOO_SHORT`},
		"all is lost": {[]mark{{noon(4), "100", ""}, {noon(5), "0", ""}}, nil, `01-05 0.0000 0.0000
01-06 -1.0000 -1.0000`},
	} {
		points, err := performance.OverTime(marks(t, c.marks...), bounds, c.prices)
		if got := pointLines(points); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}
