package currency

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Limits of reading rates for one call.
const (
	// readBudget is how long a call reads rates that are not stored, and readShare the share of the caller's time that
	// it may take at most.
	readBudget = 6 * time.Second
	readShare  = 0.5
	// retryAfter is how long an hour without a rate is left alone.
	retryAfter = 6 * time.Hour
)

// Source is who knows rates: the wallet service.
type Source interface {
	// Now returns the present rate; one that is unknown has a Reason. It returns errs.Invalid on currency for a token
	// that is not known, errs.Unavailable (WALLET_UNAVAILABLE).
	Now(ctx context.Context, currency string) (Rate, error)
	// Hours calls visit with the rates of the hours that begin in [from, until), in order, some at a time. A rate that
	// nobody could be asked for is left out. Errors as those of Now, or visit's.
	Hours(ctx context.Context, currency string, from, until time.Time, visit func([]HourRate) error) error
}

// HourRate is the rate of an hour: the last one at or before its start.
type HourRate struct {
	Hour time.Time
	Rate
}

// Store stores the rates of hours.
type Store interface {
	// MissingRates returns the first and the last hour that begin in [from, until) and have no rate stored, leaving
	// out those that were asked for without success since a time; zero times when none is missing.
	MissingRates(ctx context.Context, currency string, from, until, since time.Time) (first, last time.Time, err error)
	// SaveRates stores rates, and why there is none. A stored rate stays as it is.
	SaveRates(ctx context.Context, rates []HourRate) error
	// Rates returns the rates of these hours, in their order; one without a price that has no reason was never read.
	Rates(ctx context.Context, currency string, hours []time.Time) ([]Rate, error)
}

// Service finds rates. It is safe for concurrent use.
type Service struct {
	store  Store
	source Source
	now    func() time.Time
}

// NewService returns the service.
func NewService(st Store, src Source, now func() time.Time) *Service {
	return &Service{store: st, source: src, now: now}
}

// Now returns the present rate of a currency. It returns errs.Invalid on currency for what is none, errs.Unavailable
// (RATE_UNAVAILABLE) when it has no rate, or (WALLET_UNAVAILABLE).
func (s *Service) Now(ctx context.Context, currency string) (Rate, error) {
	if IsUSD(currency) {
		return USD(), nil
	}
	if err := Check("currency", currency); err != nil {
		return Rate{}, err
	}
	r, err := s.source.Now(ctx, currency)
	if err != nil {
		return Rate{}, err
	}
	if !r.Known() {
		return Rate{}, unavailable(currency, "now", r.Reason)
	}
	return r, nil
}

// Of returns the rate that a valuation is converted at: that of its hour if it is a snapshot, otherwise that of now.
// Errors are those of Now.
func (s *Service) Of(ctx context.Context, currency string, v valuation.Valuation, isSnapshot bool) (Rate, error) {
	if !isSnapshot && !v.Stale {
		return s.Now(ctx, currency)
	}
	rates, err := s.At(ctx, currency, v.ValuationTime)
	if err != nil {
		return Rate{}, err
	}
	return rates[0], nil
}

// At returns the rates of the hours that these times are in, which are in order and of which it reads those that are
// not stored. Errors are those of Now, RATE_UNAVAILABLE when one of them has no rate.
func (s *Service) At(ctx context.Context, currency string, times ...time.Time) ([]Rate, error) {
	rates, err := s.Known(ctx, currency, times...)
	if err != nil {
		return nil, err
	}
	for i, r := range rates {
		if !r.Known() {
			hour := times[i].UTC().Truncate(time.Hour)
			return nil, unavailable(currency, "at "+hour.Format(time.RFC3339), r.Reason)
		}
	}
	return rates, nil
}

// Known is At, but returns rates that are not known too. errs.Invalid for an unknown currency.
func (s *Service) Known(ctx context.Context, currency string, times ...time.Time) ([]Rate, error) {
	if IsUSD(currency) {
		return slices.Repeat([]Rate{USD()}, len(times)), nil
	}
	if len(times) == 0 {
		return nil, Check("currency", currency)
	}
	hours := make([]time.Time, len(times))
	for i, t := range times {
		hours[i] = t.UTC().Truncate(time.Hour)
	}
	if err := s.Read(ctx, currency, hours[0], hours[len(hours)-1].Add(time.Hour)); err != nil {
		return nil, err
	}
	return s.store.Rates(ctx, currency, hours)
}

// Read has the rates of the hours in [from, until) stored, as far as the caller's time allows: what is not stored then
// is read by a later call. Errors are those of Now, for a currency that is none.
func (s *Service) Read(ctx context.Context, currency string, from, until time.Time) error {
	if IsUSD(currency) {
		return nil
	}
	if err := Check("currency", currency); err != nil {
		return err
	}
	from = from.UTC().Truncate(time.Hour)
	if next := s.now().UTC().Truncate(time.Hour).Add(time.Hour); until.After(next) {
		until = next
	}
	first, last, err := s.store.MissingRates(ctx, currency, from, until, s.now().Add(-retryAfter))
	if err != nil || first.IsZero() {
		return err
	}
	reading, stop := deadline.Share(ctx, readShare, readBudget)
	defer stop()
	err = s.source.Hours(reading, currency, first, last.Add(time.Hour), func(rates []HourRate) error {
		return s.store.SaveRates(ctx, rates)
	})
	switch {
	case err == nil || errs.Is(err, errs.KindInvalid) || errs.Is(err, errs.KindPermissionDenied) || ctx.Err() != nil:
		return err
	default: // what is stored serves, and what is missing is said where it is missing
		return nil
	}
}

func unavailable(currency, when, reason string) error {
	if reason == "" {
		reason = ReasonUnavailable
	}
	return errs.Unavailable("RATE_UNAVAILABLE", fmt.Sprintf("%s has no rate %s: %s", currency, when, reason))
}
