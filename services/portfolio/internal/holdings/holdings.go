// Package holdings reads what a user's wallets hold and held from the wallet service, in
// the caller's own name, or in this service's where there is no caller.
package holdings

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/proto/access"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Bounds of one reading, in rows.
const (
	pageSize = 2000
	maxPages = 50
	// pageTimeout leaves the caller time for the last snapshot instead, as
	// does reserve: the share of the caller's own time that is kept back.
	pageTimeout = 5 * time.Second
	reserve     = 4 // a quarter
)

// Reader implements portfolio.Holdings and snapshot.History.
type Reader struct {
	client walletv1.HoldingsServiceClient
}

// NewReader reads through client, whose connection forwards the caller's
// token.
func NewReader(c walletv1.HoldingsServiceClient) *Reader { return &Reader{client: c} }

// Of implements portfolio.Holdings.
func (r *Reader) Of(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error) {
	var wallets []valuation.Wallet
	var holdings []valuation.Holding
	last, token := "", ""
	for range maxPages {
		resp, err := r.page(ctx, owner, token)
		if err != nil {
			return nil, nil, err
		}
		for _, w := range resp.GetWallets() {
			if w.GetWalletId() != last {
				last = w.GetWalletId()
				wallets = append(wallets, walletFrom(w))
			}
			for _, h := range w.GetHoldings() {
				v, err := holdingFrom(h)
				if err != nil {
					return nil, nil, err
				}
				holdings = append(holdings, v)
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			return wallets, holdings, nil
		}
	}
	return nil, nil, tooMany()
}

func tooMany() error {
	return errs.Exhausted("TOO_MANY_HOLDINGS",
		fmt.Sprintf("more than %d holdings can't be valued at once", maxPages*pageSize))
}

// Readable implements portfolio.Holdings, by the rule of the wallet service.
func (r *Reader) Readable(ctx context.Context) bool {
	rule, ok := access.Lookup(walletv1.HoldingsService_GetHoldings_FullMethodName)
	return ok && authn.CallerFrom(ctx).May(rule.Permission)
}

func (r *Reader) page(ctx context.Context, owner uuid.UUID, token string) (*walletv1.GetHoldingsResponse, error) {
	limited, cancel := context.WithTimeout(ctx, within(ctx))
	defer cancel()
	resp, err := r.client.GetHoldings(limited,
		&walletv1.GetHoldingsRequest{PageSize: pageSize, PageToken: token, OwnerId: owner.String()})
	if err != nil {
		return nil, away(err)
	}
	// A release that doesn't know owner_id answers for who calls: this service
	// itself, which has no wallets.
	if got := resp.GetOwnerId(); got != owner.String() && (got != "" || authn.CallerFrom(ctx).Anonymous()) {
		return nil, errs.Unavailable("WALLET_UNAVAILABLE",
			"the wallet service can't tell another owner's holdings yet")
	}
	return resp, nil
}

// within is how long a page may take.
func within(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return pageTimeout
	}
	left := time.Until(end)
	return min(pageTimeout, left-left/reserve)
}

// away gives an unreachable wallet service its name. Running out of time is
// the same to the caller as long as their own call has time left.
func away(err error) error {
	if errs.Is(err, errs.KindUnavailable) || errs.Is(err, errs.KindDeadline) {
		return errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service is away").Because(err)
	}
	return err
}

func walletFrom(w *walletv1.WalletHoldings) valuation.Wallet {
	out := valuation.Wallet{
		Account: w.GetAccount(),
		Synced:  w.GetSync().GetSyncTime() != nil,
		Failed:  w.GetSync().GetState() == walletv1.SyncState_SYNC_STATE_FAILED,
		Problem: w.GetSync().GetError(),
	}
	if out.Synced {
		out.SyncedAt = w.GetSync().GetSyncTime().AsTime()
	}
	return out
}

func holdingFrom(h *walletv1.Holding) (valuation.Holding, error) {
	t, p := h.GetBalance().GetToken(), h.GetPrice()
	amount, ok := new(big.Int).SetString(h.GetBalance().GetAmount(), 10)
	if !ok || t.GetDecimals() > 255 {
		return valuation.Holding{}, errs.Internal(errors.New("malformed holding of " + t.GetId()))
	}
	v := valuation.Holding{
		TokenID: t.GetId(), Symbol: t.GetSymbol(), Decimals: uint8(t.GetDecimals()), Verified: t.GetVerified(),
		Amount: amount, Price: p.GetPrice(), PriceSource: p.GetSource(),
		PriceStale: p.GetStale(), Reason: p.GetUnpricedReason(),
	}
	if p.GetPriceTime() != nil {
		v.PriceTime = p.GetPriceTime().AsTime()
	}
	return v, nil
}
