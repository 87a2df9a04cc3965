package demo

import (
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/terminal"
)

// shownPoints limits the points shown of a timeline.
const shownPoints = 8

// Show prints the holdings and the timeline as tables, and the value by day as a chart.
func (r *Result) Show(w io.Writer) error {
	parts := []string{r.holdings(), r.timeline()}
	if r.Backfill != nil {
		parts = append(parts, r.chart())
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", strings.Join(parts, "\n\n")); err != nil {
		return fmt.Errorf("show result: %w", err)
	}
	return nil
}

func (r *Result) holdings() string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.SetTitle("Holdings")
	t.AppendHeader(table.Row{"Token", "Amount", "Price", "Value", "Share"})
	for _, p := range r.Valuation.GetPositions() {
		value, share := terminal.Money(p.GetValue()), fmt.Sprintf("%.2f %%", 100*p.GetShare())
		switch {
		case p.GetUnpricedReason() != "":
			value, share = "unpriced", ""
		case !p.GetVerified():
			share = "not counted"
		}
		t.AppendRow(table.Row{strings.TrimSpace(p.GetSymbol() + " " + Place(p)),
			Amount(p.GetAmount(), int(p.GetDecimals())),
			terminal.Money(p.GetPrice()), value, share})
	}
	t.AppendFooter(table.Row{"Total", "", "", terminal.Money(r.Valuation.GetTotal()) + " " +
		r.Valuation.GetCurrency(), ""})
	right := []table.ColumnConfig{}
	for _, c := range []string{"Amount", "Price", "Value", "Share"} {
		right = append(right, table.ColumnConfig{Name: c, Align: text.AlignRight, AlignHeader: text.AlignRight,
			AlignFooter: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	return t.Render()
}

// Place says what a position is in a protocol, such as "borrowed, aave-v3"; "" of a token in wallets.
func Place(p *portfoliov1.Position) string {
	if p.GetProtocol() == "" {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(p.GetKind().String(), "HOLDING_KIND_")) + ", " + p.GetProtocol()
}

func (r *Result) timeline() string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.SetTitle("Timeline (UTC)")
	t.AppendHeader(table.Row{"", "From", "Open", "Close", "Min", "Max", "Snapshots"})
	rows := func(label, layout string, points []*portfoliov1.TimelinePoint) {
		for _, p := range points[max(0, len(points)-shownPoints):] {
			count := fmt.Sprint(p.GetSnapshotCount())
			if p.GetCarriedForward() {
				count = "carried"
			}
			t.AppendRow(table.Row{label, p.GetStartTime().AsTime().Format(layout), terminal.Money(p.GetOpen()),
				terminal.Money(p.GetClose()), terminal.Money(p.GetMin()), terminal.Money(p.GetMax()), count})
		}
	}
	rows("hour", "2006-01-02 15:04", r.Hourly)
	t.AppendSeparator()
	rows("day", "2006-01-02", r.Daily)
	return t.Render()
}

// Decimals cuts a decimal number to so many places; a reason instead of one stays.
func Decimals(number string, places int) string {
	whole, part, ok := strings.Cut(number, ".")
	if !ok {
		return number
	}
	return whole + "." + part[:min(places, len(part))]
}

// Percent is a fraction as a percentage, rounded down to one place, or the reason why there is none.
func Percent(f *portfoliov1.DefiFigure) string {
	n, ok := new(big.Rat).SetString(f.GetValue())
	if !ok {
		return f.GetUnavailableReason()
	}
	n.Mul(n, big.NewRat(1000, 1))
	tenths := new(big.Int).Quo(n.Num(), n.Denom())
	text := new(big.Rat).SetFrac(tenths, big.NewInt(10)).FloatString(1) + " %"
	if f.GetAtLeast() {
		return "at least " + text
	}
	return text
}

// Amount formats base units as a decimal with at most six places, rounded down.
func Amount(base string, decimals int) string {
	if len(base) <= decimals {
		base = strings.Repeat("0", decimals-len(base)+1) + base
	}
	whole, fraction := base[:len(base)-decimals], base[len(base)-decimals:]
	if len(whole) > 40 {
		return whole[:4] + "…e" + fmt.Sprint(len(whole)-4)
	}
	return terminal.Money(whole + "." + fraction[:min(6, len(fraction))])
}
