package portfolio

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// MarketReader reads what wallets have in protocols.
type MarketReader interface {
	// Markets returns what the owner's wallets have in protocols now, and the wallets; errs.Unavailable while it can't
	// be read.
	Markets(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Market, error)
}

// InMarkets is what the wallets of a portfolio have in protocols at a time.
type InMarkets struct {
	At      time.Time
	Wallets []valuation.Wallet
	Markets []valuation.Market
}

// Markets returns what the wallets of a portfolio have in protocols now, without the cache. Like Assets it stores what
// changed of the wallets. It returns errs.Unavailable (WALLET_UNAVAILABLE) while that can't be read.
func (s *Service) Markets(ctx context.Context, p Portfolio, from MarketReader) (InMarkets, error) {
	at := s.now().UTC()
	all, err := s.store.Memberships(ctx, p.ID, at, at)
	if err != nil {
		return InMarkets{}, err
	}
	m, _ := all.At(at)
	wallets, markets, err := from.Markets(ctx, p.Owner)
	if err != nil {
		return InMarkets{}, err
	}
	// Whatever others notice at the same time, what was read is of one moment.
	if m, err = s.Follow(ctx, p, m, wallets, at); err != nil {
		return InMarkets{}, err
	}
	return InMarkets{At: at, Wallets: m.Members(wallets), Markets: m.markets(markets)}, nil
}

// markets returns those of the portfolio's wallets among those of its owner.
func (m Membership) markets(all []valuation.Market) []valuation.Market {
	if !m.Named {
		return all
	}
	members := m.ids()
	var own []valuation.Market
	for _, market := range all {
		if members[market.WalletID] {
			own = append(own, market)
		}
	}
	return own
}
