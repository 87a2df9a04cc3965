package console

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

func ratio(f float64) *portfoliov1.Ratio { return &portfoliov1.Ratio{Value: &f} }

func noRatio(reason string) *portfoliov1.Ratio { return &portfoliov1.Ratio{UnavailableReason: reason} }

// What is undefined is null in a chart and says why beside it; it is never 0.
func TestAChartHasGapsWhereNothingIsKnown(t *testing.T) {
	day := func(d, h int) *timestamppb.Timestamp {
		return timestamppb.New(time.Date(2026, 1, d, h, 0, 0, 0, time.UTC))
	}
	points := growthPoints(&portfoliov1.Performance{StartTime: day(1, 6),
		Benchmark: &portfoliov1.Benchmark{TokenReturn: ratio(0.5)},
		Growth: []*portfoliov1.GrowthPoint{
			{StartTime: day(1, 0), EndTime: day(2, 0), SnapshotTime: day(1, 23), TimeWeighted: ratio(0.25),
				Drawdown: ratio(0), Benchmark: ratio(0.5)},
			{StartTime: day(2, 0), EndTime: day(3, 0), TimeWeighted: noRatio("NO_SNAPSHOTS"),
				Drawdown: noRatio("NO_SNAPSHOTS"), Benchmark: noRatio("NO_SNAPSHOTS")},
			{StartTime: day(3, 0), EndTime: day(4, 0), SnapshotTime: day(4, 0), TimeWeighted: ratio(-1),
				Drawdown: ratio(-1), Benchmark: noRatio("NO_BENCHMARK_PRICE")},
		}})
	sections := map[string][]state{"growth": {{Data: growth{Benchmark: "ETH", Daily: points}}},
		"allocation": {{Data: allocationOf(&portfoliov1.GetAllocationHistoryResponse{Currency: "EUR",
			Points: []*portfoliov1.AllocationPoint{{StartTime: day(1, 0), SnapshotTime: day(1, 23), Total: "40.00"},
				{StartTime: day(2, 0), SnapshotTime: day(2, 23), UnavailableReason: "RATE_UNAVAILABLE"}},
			Series: []*portfoliov1.AllocationSeries{
				{Group: "x/eth", Label: "ETH", Values: []string{"30.00", ""}, Shares: []string{"0.75000000", ""}},
				{Label: "other", Other: true, Values: []string{"10.00", ""}, Shares: []string{"0.25000000", ""}}}})}}}
	d := chartsOf(sections)
	text := func(rows []row) string {
		body, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for name, c := range map[string]struct {
		rows []row
		want string
	}{
		"growth": {d.Growth.Daily, `[[1767247200,1767247200,[100,100],"portfolio 100.00, ETH 100.00"],` +
			`[1767308400,1767225600,[125,150],"portfolio 125.00, ETH 150.00"],` +
			`[1767312000,1767312000,[null,null],"portfolio none (no snapshots), ETH none (no snapshots)"],` +
			`[1767484800,1767398400,[0,null],"portfolio 0.00, ETH none (no benchmark price)"]]`},
		"drawdown": {d.Drawdown.Daily, `[[1767247200,1767247200,[0],"0.00 %"],[1767308400,1767225600,[0],"0.00 %"],` +
			`[1767312000,1767312000,[null],"none (no snapshots)"],[1767484800,1767398400,[-100],"−100.00 %"]]`},
		"allocation": {d.Allocation.Daily,
			`[[1767225600,1767225600,["30.00","10.00"],"40.00 EUR: ETH 75.00 %, other 25.00 %"],` +
				`[1767312000,1767312000,[null,null],"none (rate unavailable)"]]`},
	} {
		if got := text(c.rows); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", name, got, c.want)
		}
	}
	if days := (growth{Daily: points}).DailyNewestFirst(); len(days) != 3 || days[0].Own.Text != "0.00" {
		t.Errorf("the table has %+v", days)
	}
}

// A token has one colour on the page; those that are not held have others, and the rest is grey.
func TestATokenHasOneColour(t *testing.T) {
	now := &portfolio{Positions: []position{{ID: "a"}, {ID: "b"}, {ID: "c"}}}
	a := allocationHistory{Tokens: []allocatedToken{{ID: "c", Colour: 0}, {ID: "gone", Colour: 1},
		{ID: "a", Colour: 2},
		{Label: "other", Colour: allocatedTokens}}}
	var got []int
	for _, token := range a.coloured(now).Tokens {
		got = append(got, token.Colour)
	}
	if len(got) != 4 || got[0] != 2 || got[1] != 1 || got[2] != 0 || got[3] != allocatedTokens {
		t.Errorf("the colours are %v", got)
	}
	if a.Tokens[0].Colour != 0 {
		t.Error("the history itself was changed, which other pages share")
	}
}

func TestARateThatIsMissingIsNoOutage(t *testing.T) {
	err := errs.Unavailable("RATE_UNAVAILABLE", "EUR has no rate at noon")
	got := state{}.next("portfolio", nil, err, time.Now())
	if !got.UnavailableSince.IsZero() || !strings.Contains(got.Error, "no rate") {
		t.Errorf("%+v", got)
	}
}
