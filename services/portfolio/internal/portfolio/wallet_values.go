package portfolio

import (
	"context"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// WalletValue is what one wallet of a portfolio is worth.
type WalletValue struct {
	Account   string // CAIP-10
	Valuation valuation.Valuation
}

// ValueWallets values the wallets of a portfolio one by one, without the cache, in the order in which they are read.
// It returns errs.Unavailable (WALLET_UNAVAILABLE) while the holdings can't be read.
func (s *Service) ValueWallets(ctx context.Context, p Portfolio) ([]WalletValue, error) {
	at := s.now().UTC()
	m, wallets, holdings, err := s.current(ctx, p, at)
	if err != nil {
		return nil, err
	}
	wallets = m.Members(wallets)
	of := make(map[string][]valuation.Holding, len(wallets))
	for _, h := range holdings {
		of[h.WalletID] = append(of[h.WalletID], h)
	}
	values := make([]WalletValue, len(wallets))
	for i, w := range wallets {
		v, err := valuation.Compute([]valuation.Wallet{w}, of[w.ID], at)
		if err != nil {
			return nil, err
		}
		values[i] = WalletValue{Account: w.Account, Valuation: v}
	}
	return values, nil
}
