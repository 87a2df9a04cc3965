// Package holdings reads from the wallet service what a user's wallets hold now and
// held in the past, with prices. It calls with the caller's own token, or in jobs,
// which have no caller, with that of this service's account.
//
// A wallet service that can't be reached, or takes too long, is errs.Unavailable
// with WALLET_UNAVAILABLE.
package holdings

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/proto/access"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Limits of one read.
const (
	pageSize    = 10_000 // rows
	maxPages    = 50
	maxHoldings = 100_000
	// pageTimeout and pageShare, the share of the caller's remaining time, limit how
	// long one page may take: the caller can still answer with the last snapshot.
	pageTimeout = 5 * time.Second
	pageShare   = 0.75
)

// Reader implements portfolio.Holdings and snapshot.HistoryReader. It is safe for
// concurrent use.
type Reader struct {
	client walletv1.HoldingsServiceClient
}

// NewReader reads through client, whose connection forwards the token of the
// context.
func NewReader(c walletv1.HoldingsServiceClient) *Reader { return &Reader{client: c} }

// Current implements portfolio.Holdings.
func (r *Reader) Current(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error) {
	held, err := r.read(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	return held.wallets, held.all(), nil
}

// read reads all pages of what the owner's wallets have.
func (r *Reader) read(ctx context.Context, owner uuid.UUID) (collected, error) {
	var held collected
	token := ""
	for range maxPages {
		resp, err := r.page(ctx, owner, token)
		if err != nil {
			return collected{}, err
		}
		if err := held.add(resp.GetWallets(), resp.GetTokens(), resp.GetPrices()); err != nil {
			return collected{}, err
		}
		if len(held.holdings)+held.positions > maxHoldings {
			break
		}
		if token = resp.GetNextPageToken(); token == "" {
			return held, nil
		}
	}
	return collected{}, tooManyHoldings()
}

// collected is what an owner's wallets hold, as far as it was received. A wallet can
// continue in the next page or message.
type collected struct {
	wallets    []valuation.Wallet
	holdings   []valuation.Holding
	markets    []valuation.Market
	positions  int // in markets
	lastWallet string
}

// add adds wallets of a page or message that has these tokens and prices.
func (c *collected) add(wallets []*walletv1.WalletHoldings, tokens []*walletv1.Token,
	prices []*walletv1.Price) error {
	of := assetsOf(tokens, prices)
	more := 0
	for _, w := range wallets {
		more += len(w.GetHoldings())
	}
	c.holdings = slices.Grow(c.holdings, more)
	for _, w := range wallets {
		if w.GetWalletId() != c.lastWallet {
			c.lastWallet = w.GetWalletId()
			c.wallets = append(c.wallets, walletFromProto(w))
		}
		markets, err := of.markets(w)
		if err != nil {
			return err
		}
		for _, m := range markets {
			c.positions += len(m.Positions)
		}
		noteUnknown(&c.wallets[len(c.wallets)-1], markets)
		c.markets = append(c.markets, markets...)
		for _, h := range w.GetHoldings() {
			v, err := of.holding(h)
			if err != nil {
				return err
			}
			v.WalletID, v.Account = w.GetWalletId(), w.GetAccount()
			c.holdings = append(c.holdings, v)
		}
	}
	return nil
}

// all returns what the wallets hold, and what they have in markets.
func (c *collected) all() []valuation.Holding {
	return append(c.holdings, valuation.InMarkets(c.markets)...)
}

func tooManyHoldings() error {
	return errs.Exhausted("TOO_MANY_HOLDINGS",
		fmt.Sprintf("the portfolio has more than the %d holdings and positions that can be valued at once",
			maxHoldings))
}

// MayRead implements portfolio.Holdings: the caller needs the permission that the
// wallet service demands for GetHoldings.
func (r *Reader) MayRead(ctx context.Context) bool {
	rule, ok := access.Lookup(walletv1.HoldingsService_GetHoldings_FullMethodName)
	return ok && authn.CallerFrom(ctx).May(rule.Permission)
}

func (r *Reader) page(ctx context.Context, owner uuid.UUID, token string) (*walletv1.GetHoldingsResponse, error) {
	limited, cancel := deadline.Share(ctx, pageShare, pageTimeout)
	defer cancel()
	resp, err := r.client.GetHoldings(limited,
		&walletv1.GetHoldingsRequest{PageSize: pageSize, PageToken: token, OwnerId: owner.String()})
	if err != nil {
		return nil, unavailable(err)
	}
	// A wallet service of a release that doesn't know owner_id returns the holdings of
	// the token's user: in a job that is this service itself, which has no wallets.
	if got := resp.GetOwnerId(); got != owner.String() && (got != "" || authn.CallerFrom(ctx).Anonymous()) {
		return nil, errs.Unavailable("WALLET_UNAVAILABLE",
			"the wallet service can't return another owner's holdings yet")
	}
	return resp, nil
}

// unavailable returns WALLET_UNAVAILABLE for a wallet service that can't be reached
// or took too long, and other errors as they are.
func unavailable(err error) error {
	if errs.Is(err, errs.KindUnavailable) || errs.Is(err, errs.KindDeadline) {
		return errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service is unavailable").Because(err)
	}
	return err
}

func walletFromProto(w *walletv1.WalletHoldings) valuation.Wallet {
	sync := w.GetSync()
	out := valuation.Wallet{
		ID:         w.GetWalletId(),
		Account:    w.GetAccount(),
		Synced:     sync.GetSyncTime() != nil,
		SyncFailed: sync.GetState() == walletv1.SyncState_SYNC_STATE_FAILED,
		SyncError:  sync.GetError(),
	}
	if out.Synced {
		out.SyncTime = sync.GetSyncTime().AsTime()
	}
	return out
}

// assets are the tokens and prices of a page or message, by token id, as holdings that lack their amounts.
type assets map[string]valuation.Holding

func assetsOf(tokens []*walletv1.Token, prices []*walletv1.Price) assets {
	of := make(assets, len(tokens))
	for _, t := range tokens {
		if t.GetDecimals() <= math.MaxUint8 {
			of[t.GetId()] = valuation.Holding{TokenID: t.GetId(), Symbol: t.GetSymbol(),
				Decimals: uint8(t.GetDecimals()), Verified: t.GetVerified()}
		}
	}
	for _, p := range prices {
		if h, ok := of[p.GetTokenId()]; ok {
			h.Price = priceFromProto(p)
			of[p.GetTokenId()] = h
		}
	}
	return of
}

func (a assets) holding(h *walletv1.Holding) (valuation.Holding, error) {
	v, known := a[h.GetTokenId()]
	amount, ok := amountOf(h.GetAmount())
	if !known || !ok {
		return v, errs.Internal(fmt.Errorf("holding of %s: amount %q; its token, of up to 255 decimals, is there: %t",
			h.GetTokenId(), h.GetAmount(), known))
	}
	v.Amount, v.IsReceipt = amount, h.GetReceipt()
	return v, nil
}

// noteUnknown notes at a wallet what isn't known of its markets.
func noteUnknown(w *valuation.Wallet, markets []valuation.Market) {
	for _, m := range markets {
		if what := m.Unknown(); what != "" {
			w.Unknown = append(w.Unknown, what)
		}
	}
}

func priceFromProto(p *walletv1.Price) valuation.Price {
	out := valuation.Price{
		Amount: p.GetPrice(), Source: p.GetSource(), Stale: p.GetStale(), UnpricedReason: p.GetUnpricedReason(),
	}
	if p.GetPriceTime() != nil {
		out.Time = p.GetPriceTime().AsTime()
	}
	return out
}
