package console

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// allocatedTokens is how many tokens have a part of their own; the page has as many colours. Those of the others
// together are grey.
const allocatedTokens = 6

// allocationHistory is the data of the section "allocation": what the value consisted of at the end of each day.
type allocationHistory struct {
	Currency string
	Tokens   []allocatedToken
	Points   []allocationPoint
}

// allocatedToken is a token, or all others together.
type allocatedToken struct {
	ID, Label string
	// Colour is the number of its colour; allocatedTokens for grey.
	Colour int
}

// allocationPoint is the last snapshot of a day.
type allocationPoint struct {
	Day, Time time.Time
	Total     string // formatted
	// Missing says why there are no values.
	Missing string
	// Values are decimals, one a token; Parts has those above 0, formatted.
	Values []string
	Parts  []allocationPart
}

type allocationPart struct{ Label, Share string }

// NewestFirst returns the points in reverse order.
func (a allocationHistory) NewestFirst() []allocationPoint {
	points := slices.Clone(a.Points)
	slices.Reverse(points)
	return points
}

func (s *services) allocation(ctx context.Context, currency string) (any, error) {
	resp, err := portfoliov1.NewPortfolioServiceClient(s.portfolio).GetAllocationHistory(ctx,
		&portfoliov1.GetAllocationHistoryRequest{StartTime: timestamppb.New(time.Now().Add(-dailyRange)),
			MaxEntries: allocatedTokens, Currency: currency})
	if err != nil {
		return nil, err
	}
	return allocationOf(resp), nil
}

func allocationOf(resp *portfoliov1.GetAllocationHistoryResponse) allocationHistory {
	a := allocationHistory{Currency: resp.GetCurrency()}
	for i, series := range resp.GetSeries() {
		token := allocatedToken{ID: series.GetGroup(), Label: series.GetLabel(), Colour: i}
		if series.GetOther() {
			token.Colour = allocatedTokens
		}
		a.Tokens = append(a.Tokens, token)
	}
	for i, p := range resp.GetPoints() {
		point := allocationPoint{Day: moment(p.GetStartTime()), Time: moment(p.GetSnapshotTime()),
			Total: fiat(p.GetTotal()), Missing: reason(p.GetUnavailableReason())}
		for _, series := range resp.GetSeries() {
			value := series.GetValues()[i]
			point.Values = append(point.Values, value)
			if v, ok := new(big.Rat).SetString(value); ok && v.Sign() > 0 {
				point.Parts = append(point.Parts, allocationPart{series.GetLabel(), share(series.GetShares()[i])})
			}
		}
		a.Points = append(a.Points, point)
	}
	return a
}

// share returns a fraction in percent.
func share(fraction string) string {
	r, ok := new(big.Rat).SetString(fraction)
	if !ok {
		return "none"
	}
	return r.Mul(r, big.NewRat(100, 1)).FloatString(2) + " %"
}

// coloured gives tokens the colours that they have among the holdings now, and those that are not held others.
func (a allocationHistory) coloured(now *portfolio) allocationHistory {
	if now == nil {
		return a
	}
	a.Tokens = slices.Clone(a.Tokens)
	used := map[int]bool{allocatedTokens: true}
	for i, t := range a.Tokens {
		if t.Colour == allocatedTokens {
			continue
		}
		a.Tokens[i].Colour = slices.IndexFunc(now.Positions, func(p position) bool { return p.ID == t.ID })
		if a.Tokens[i].Colour >= allocatedTokens {
			a.Tokens[i].Colour = -1
		}
		used[a.Tokens[i].Colour] = true
	}
	next := 0
	for i := range a.Tokens {
		if a.Tokens[i].Colour >= 0 {
			continue
		}
		for used[next] {
			next++
		}
		used[next], a.Tokens[i].Colour = true, next
	}
	return a
}

// rows returns the points of the chart.
func (a allocationHistory) rows() []row {
	rows := make([]row, 0, len(a.Points))
	for _, p := range a.Points {
		r := row{Time: p.Day.Unix(), Label: p.Day.Unix(), Values: make([]any, len(p.Values))}
		if p.Missing != "" {
			r.Text = "none (" + p.Missing + ")"
		} else {
			var parts []string
			for i, v := range p.Values {
				r.Values[i] = v
			}
			for _, part := range p.Parts {
				parts = append(parts, part.Label+" "+part.Share)
			}
			r.Text = p.Total + " " + a.Currency + ": " + strings.Join(parts, ", ")
		}
		rows = append(rows, r)
	}
	return rows
}

// historyOf returns the allocation over time of a page, with its colours.
func historyOf(sections map[string][]state) allocationHistory {
	var a allocationHistory
	for _, of := range sections["allocation"] {
		a, _ = of.Data.(allocationHistory)
	}
	return a.coloured(summaryOf(sections).Now)
}
