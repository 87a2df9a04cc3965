package kpi

import (
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// Of returns the rate that a valuation is converted at. It returns errs.Invalid on currency for what is none,
	// errs.Unavailable (RATE_UNAVAILABLE).
	Of(ctx context.Context, currency string, v valuation.Valuation, isSnapshot bool) (currency.Rate, error)
	// Read has the rates of the hours in a range stored, as far as there is time.
	Read(ctx context.Context, currency string, from, until time.Time) error
	// Known returns the rates of the hours that these times are in, which are in order, also those that aren't known.
	Known(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// ratesOf returns the rates of marks, of which the first ones are snapshots. A further one is that of now, with its
// rate. It reads the rates of all hours since the first snapshot, which HighestSnapshot compares.
func (s *Service) ratesOf(ctx context.Context, p portfolio.Portfolio, marks []performance.Mark, snapshots int,
	now currency.Rate) ([]currency.Rate, error) {
	if currency.IsUSD(now.Currency) {
		return slices.Repeat([]currency.Rate{now}, len(marks)), nil
	}
	first, err := s.store.FirstSnapshot(ctx, p.ID, time.Unix(0, 0).UTC())
	if err != nil || len(marks) == 0 {
		return nil, err
	}
	if first.IsZero() { // they were deleted after the marks were read
		first = marks[0].Time
	}
	if err := s.rates.Read(ctx, now.Currency, first, s.now()); err != nil {
		return nil, err
	}
	times := make([]time.Time, snapshots)
	for i, m := range marks[:snapshots] {
		times[i] = m.Time
	}
	rates, err := s.rates.Known(ctx, now.Currency, times...)
	if err != nil || len(marks) == snapshots {
		return rates, err
	}
	return append(rates, now), nil
}

// converted returns marks at their rates. One without a rate has no Value, and no NetFlow unless that is 0.
func converted(marks []performance.Mark, rates []currency.Rate) ([]performance.Mark, error) {
	out := make([]performance.Mark, len(marks))
	for i, m := range marks {
		out[i] = performance.Mark{Time: m.Time, Dollars: m.Value}
		if !rates[i].Known() {
			if m.NetFlow.IsZero() {
				out[i].NetFlow = m.NetFlow
			}
			continue
		}
		var err error
		if out[i].Value, err = rates[i].Convert(m.Value); err != nil {
			return nil, errs.Internal(err)
		}
		if out[i].NetFlow, err = rates[i].Convert(m.NetFlow); err != nil {
			return nil, errs.Internal(err)
		}
	}
	return out, nil
}

// pricesIn returns positions with prices at a rate, or why there are none.
func pricesIn(positions []valuation.Position, r currency.Rate) (out []valuation.Position, missing string, err error) {
	if !r.Known() {
		return nil, ReasonRateUnavailable, nil
	}
	out = slices.Clone(positions)
	for i, p := range out {
		if currency.IsUSD(r.Currency) || !p.Price.Known() {
			continue
		}
		usd, _, err := apd.NewFromString(p.Price.Amount)
		if err != nil {
			return nil, "", err
		}
		price, err := r.ConvertPrice(usd)
		if err != nil {
			return nil, "", err
		}
		out[i].Price.Amount = price.Text('f')
	}
	return out, "", nil
}
