// Package defi values what the wallets of a portfolio have in protocols, and says how near it is to a liquidation.
//
// It promises:
//   - Money is decimals: a value is rounded half to even to valuation.Scale places, in the currency of the answer, and
//     each sum is that of the values shown, exactly.
//   - What has no price, or isn't known, is told with a reason. It is never 0 for that.
//   - A token that isn't verified counts in no sum, as in valuations, and a debt that doesn't count makes the answer
//     incomplete.
//   - The health of an account is as its protocol tells it. The lowest is told beside every figure that joins several.
//   - A figure of safety, such as how far a price may fall, is rounded down, and is unavailable, or told as a lower
//     bound, where it can't be computed exactly.
//
// Limits: a market tells the average of the liquidation thresholds of an account's collaterals, not that of each.
// Which part a token has in a debt or a collateral of several is told by the portfolio's prices, not by the market's.
package defi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Figure is a decimal, or the reason why there is none.
type Figure struct {
	Value       *apd.Decimal
	Unavailable string // Value is nil if and only if this is set
	// AtLeast: the figure itself is not known, and is Value or more.
	AtLeast bool
}

func unavailable(reason string) Figure { return Figure{Unavailable: reason} }

// Portfolios reads what portfolios have; *portfolio.Service implements it.
type Portfolios interface {
	Markets(ctx context.Context, p portfolio.Portfolio, from portfolio.MarketReader) (portfolio.InMarkets, error)
}

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// Now returns the present rate. It returns errs.Invalid on currency for what is none, errs.Unavailable
	// (RATE_UNAVAILABLE).
	Now(ctx context.Context, currency string) (currency.Rate, error)
}

// MarketReader reads what wallets have in protocols, now and in the past; *holdings.Reader implements it.
type MarketReader interface {
	portfolio.MarketReader
	// PastMarkets returns what the owner's wallets had at a past hour, with the growth indexes and block times of
	// then.
	PastMarkets(ctx context.Context, owner uuid.UUID, hour time.Time) ([]valuation.Market, error)
}

// Service values positions. It is safe for concurrent use.
type Service struct {
	portfolios Portfolios
	reader     MarketReader
	rates      Rates
}

// NewService returns the service.
func NewService(p Portfolios, r MarketReader, rates Rates) *Service {
	return &Service{portfolios: p, reader: r, rates: rates}
}

// State is all that a portfolio has in protocols, valued.
type State struct {
	At time.Time
	// Rate of all values and prices.
	Rate currency.Rate
	// Incomplete says in words what is missing or stale.
	Incomplete []string
	// Markets of wallets by protocol, market and wallet, without those that are complete and empty.
	Markets []Market
	Total   Worth
	// Earning is what owned positions yield, Borrowing what debts cost; PastEarning and PastBorrowing are of the last
	// 30 days.
	Earning, Borrowing, PastEarning, PastBorrowing Yield
	// BadRates is how many positions have a rate of which nothing can be told.
	BadRates int
}

// Market is what a wallet has in a market, valued.
type Market struct {
	valuation.Market
	Positions []Position
	Worth     Worth
}

// Key orders markets of wallets.
type Key struct{ Protocol, Market, Wallet string }

// Key of the market.
func (m *Market) Key() Key { return Key{Protocol: m.Protocol, Market: m.ID, Wallet: m.WalletID} }

// Compare orders keys.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Protocol, other.Protocol), cmp.Compare(k.Market, other.Market),
		cmp.Compare(k.Wallet, other.Wallet))
}

// maxReasons is how many reasons why an answer is incomplete are told.
const maxReasons = 50

// Read reads and values what a portfolio has in protocols. It returns errs.Unavailable (WALLET_UNAVAILABLE,
// RATE_UNAVAILABLE), errs.Exhausted (TOO_MANY_HOLDINGS) and errs.Invalid on currency.
func (s *Service) Read(ctx context.Context, p portfolio.Portfolio, code string) (State, error) {
	if err := currency.Check("currency", code); err != nil {
		return State{}, err
	}
	in, err := s.portfolios.Markets(ctx, p, s.reader)
	if err != nil {
		return State{}, err
	}
	rate, err := s.rates.Now(ctx, code)
	if err != nil {
		return State{}, err
	}
	state, err := Value(in, rate)
	if err != nil {
		return State{}, errs.Internal(err)
	}
	return state, nil
}

// Value values what wallets have in protocols at a rate. It fails for a malformed price only.
func Value(in portfolio.InMarkets, rate currency.Rate) (State, error) {
	// The wallets alone: how their balances were read is how their positions were. What isn't known of markets is told
	// by market.
	known := slices.Clone(in.Wallets)
	for i := range known {
		known[i].Unknown = nil
	}
	wallets, err := valuation.Compute(known, nil, in.At)
	if err != nil {
		return State{}, err
	}
	s := State{At: in.At, Rate: rate, Incomplete: slices.Clone(wallets.IncompleteReasons), Total: newWorth()}
	v := valuer{rate: rate, yields: map[string]Figure{}}
	for _, of := range in.Markets {
		m := Market{Market: of, Worth: newWorth()}
		for _, p := range of.Positions {
			if p.Amount.Sign() == 0 {
				continue
			}
			position, err := v.value(p)
			if err != nil {
				return State{}, err
			}
			m.Positions = append(m.Positions, position)
			m.Worth.add(&position)
		}
		if !of.Complete {
			s.incomplete("%s %s of wallet %s: %s", of.Protocol, of.ID, of.Account, cmp.Or(of.Missing, "not read"))
		} else if len(m.Positions) == 0 && of.Lending == nil {
			continue
		}
		s.Total.join(m.Worth)
		s.Markets = append(s.Markets, m)
	}
	slices.SortFunc(s.Markets, func(a, b Market) int { return a.Key().Compare(b.Key()) })
	s.sumYields()
	s.noteMissingPrices()
	if rate.Stale {
		s.incomplete("the rate of %s is stale", rate.Currency)
	}
	slices.Sort(s.Incomplete)
	s.Incomplete = slices.Compact(s.Incomplete)
	if n := len(s.Incomplete); n > maxReasons {
		s.Incomplete = append(s.Incomplete[:maxReasons], fmt.Sprintf("and %d more", n-maxReasons))
	}
	return s, nil
}

func (s *State) incomplete(format string, args ...any) {
	s.Incomplete = append(s.Incomplete, fmt.Sprintf(format, args...))
}

// noteMissingPrices says which prices are missing or stale.
func (s *State) noteMissingPrices() {
	for i := range s.Markets {
		for j := range s.Markets[i].Positions {
			p := &s.Markets[i].Positions[j]
			name := cmp.Or(p.Symbol, p.TokenID)
			switch {
			case p.Value == nil && (p.Verified || !p.Known || p.Kind == valuation.Borrowed || p.Kind == ""):
				s.incomplete("%s in %s is unpriced: %s", name, s.Markets[i].Protocol, p.Unpriced)
			case p.Value != nil && !p.Verified && p.Kind == valuation.Borrowed:
				s.incomplete("a debt of %s in %s doesn't count: the token isn't verified", name, s.Markets[i].Protocol)
			case p.Counted() && p.Price.Stale:
				s.incomplete("the price of %s is stale", name)
			}
		}
	}
}

// Complete reports whether nothing was missing or stale.
func (s *State) Complete() bool { return len(s.Incomplete) == 0 }
