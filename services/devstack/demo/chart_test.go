package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// days returns points with these closes, from 1 March on; a ~ marks an incomplete one.
func days(closes ...string) (points []*portfoliov1.TimelinePoint) {
	for i, c := range closes {
		total, incomplete := strings.CutPrefix(c, "~")
		points = append(points, &portfoliov1.TimelinePoint{
			StartTime: timestamppb.New(time.Date(2026, 3, 1+i, 0, 0, 0, 0, time.UTC)), Close: total,
			Complete: !incomplete,
		})
	}
	return points
}

func TestADaysChangeIsItsCloseMinusTheCloseBefore(t *testing.T) {
	for _, tc := range []struct {
		name        string
		closes      []string
		best, worst string
	}{
		{"one day", []string{"1"}, "no complete day", "no complete day"},
		{"none", nil, "no complete day", "no complete day"},
		{"up and down", []string{"100.00000000", "110", "99", "99.99"}, "2026-03-02  +10.00 USD  (+10.00 %)",
			"2026-03-03  -11.00 USD  (-10.00 %)"},
		{"up alone", []string{"100", "101", "103"}, "2026-03-03  +2.00 USD  (+1.98 %)",
			"2026-03-02  +1.00 USD  (+1.00 %)"},
		{"from nothing", []string{"0", "5"}, "2026-03-02  +5.00 USD", "2026-03-02  +5.00 USD"},
		{"the first of equal ones", []string{"1", "2", "3"}, "2026-03-02  +1.00 USD  (+100.00 %)",
			"2026-03-02  +1.00 USD  (+100.00 %)"},
		{"half to even", []string{"1000", "1000.005", "1000.02"}, "2026-03-03  +0.02 USD  (+0.00 %)",
			"2026-03-02  +0.00 USD  (+0.00 %)"},
		{"more than a float can tell apart", []string{"100000000000000000000.00000001",
			"100000000000000000000.12345678"}, "2026-03-02  +0.12 USD  (+0.00 %)", "2026-03-02  +0.12 USD  (+0.00 %)"},
		{"next to incomplete ones", []string{"1", "~2", "9", "8"}, "2026-03-04  -1.00 USD  (-11.11 %)",
			"2026-03-04  -1.00 USD  (-11.11 %)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			best, worst, err := extremes(days(tc.closes...))
			if err != nil || !strings.HasPrefix(best.String(), tc.best) ||
				!strings.HasPrefix(worst.String(), tc.worst) {
				t.Errorf("best %s, worst %s, %v", best, worst, err)
			}
		})
	}
	if _, _, err := extremes(days("1", "x")); err == nil {
		t.Error("a close that is no number is accepted")
	}
}

func TestTheChartFitsATerminal(t *testing.T) {
	year := func(value func(i int) string) (closes []string) {
		for i := range 365 {
			closes = append(closes, value(i))
		}
		return closes
	}
	for name, closes := range map[string][]string{
		"two days":  {"1", "2"},
		"no change": {"5", "5", "5"},
		"nothing":   {"0", "0"},
		"a year":    year(func(i int) string { return fmt.Sprint(i * i) }),
		"large":     year(func(i int) string { return fmt.Sprintf("%d000000000000000000000000000000.12345678", i) }),
		"small":     year(func(i int) string { return fmt.Sprintf("0.%08d", i) }),
	} {
		t.Run(name, func(t *testing.T) {
			r := &Result{Days: days(closes...)}
			chart := r.chart()
			for line := range strings.SplitSeq(chart, "\n") {
				if n := utf8.RuneCountInString(line); n > 100 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			first, last := r.Days[0].GetStartTime().AsTime(), r.Days[len(closes)-1].GetStartTime().AsTime()
			if strings.Count(chart, first.Format(time.DateOnly)) < 2 ||
				strings.Count(chart, last.Format(time.DateOnly)) < 2 {
				t.Errorf("the axis isn't labelled:\n%s", chart)
			}
		})
	}
	for _, closes := range [][]string{nil, {"1"}} {
		if chart := (&Result{Days: days(closes...)}).chart(); !strings.Contains(chart, "two days") {
			t.Errorf("%d days: %s", len(closes), chart)
		}
	}
}
