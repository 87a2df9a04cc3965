package holdings

import (
	"context"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// maxPriced is how many prices are asked for in one call.
const maxPriced = 500

// Prices reads the present prices of any number of tokens and currencies, as this service itself. It is safe for
// concurrent use.
type Prices struct {
	client walletv1.PriceServiceClient
	asSelf func(ctx context.Context) (context.Context, error)
}

// NewPrices reads prices through client with the service's own token, which asSelf puts into a context.
func NewPrices(c walletv1.PriceServiceClient, asSelf func(ctx context.Context) (context.Context, error)) *Prices {
	return &Prices{client: c, asSelf: asSelf}
}

// Now returns the prices by id. Errors are those of Reader.
func (p *Prices) Now(ctx context.Context, ids []string) (map[string]valuation.Price, error) {
	ctx, err := p.asSelf(ctx)
	if err != nil {
		return nil, err
	}
	prices := make(map[string]valuation.Price, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), maxPriced)
		limited, cancel := context.WithTimeout(ctx, pageTimeout)
		resp, err := p.client.GetPrices(limited, &walletv1.GetPricesRequest{TokenIds: ids[:n]})
		cancel()
		if err != nil {
			return nil, unavailable(err)
		}
		if len(resp.GetPrices()) != n {
			return nil, errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service returned other prices")
		}
		for i, price := range resp.GetPrices() {
			prices[ids[i]] = priceFromProto(price)
		}
		ids = ids[n:]
	}
	return prices, nil
}
