package holdings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// minPageTime is the time that has to be left to read another page of a history.
const minPageTime = 100 * time.Millisecond

// ReadHours implements snapshot.HistoryReader. It reads the next page while visit
// is called with the hours of one.
func (r *Reader) ReadHours(ctx context.Context, owner uuid.UUID, first, last time.Time,
	visit func(snapshot.HourHoldings) error) (time.Time, error) {
	ctx, stop := context.WithCancel(ctx)
	a := &hourAssembler{visit: visit, first: first, last: last, next: first}
	next := r.readPage(ctx, owner, first, last, "")
	defer func() {
		if stop(); next != nil {
			<-next
		}
	}()
	for next != nil {
		page := <-next
		next = nil
		switch {
		case page.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded), page.timeIsUp:
			return a.next, nil
		case page.err != nil:
			return a.next, page.err
		}
		if token := page.GetNextPageToken(); token != "" {
			next = r.readPage(ctx, owner, first, last, token)
		}
		a.learn(page.GetTokens())
		for _, h := range page.GetHours() {
			if err := a.add(h); err != nil {
				return a.next, err
			}
		}
	}
	err := a.finish()
	return a.next, err
}

// hoursPage is a page of a history. timeIsUp says that it was not requested because
// too little time is left.
type hoursPage struct {
	*walletv1.ListHistoricalHoldingsResponse
	timeIsUp bool
	err      error
}

// readPage requests a page. The channel receives it, also when ctx ends.
func (r *Reader) readPage(ctx context.Context, owner uuid.UUID, first, last time.Time, token string) <-chan hoursPage {
	received := make(chan hoursPage, 1)
	go func() {
		if left, ok := deadline.Remaining(ctx); ok && left < minPageTime {
			received <- hoursPage{timeIsUp: true}
			return
		}
		resp, err := r.client.ListHistoricalHoldings(ctx, &walletv1.ListHistoricalHoldingsRequest{
			StartTime: timestamppb.New(first),
			// The end is exclusive, and may not be in the future: last may have begun
			// just now.
			EndTime:  timestamppb.New(last.Add(time.Nanosecond)),
			PageSize: pageSize, PageToken: token, OwnerId: owner.String(),
		})
		if err != nil {
			err = unavailable(err)
		} else if got := resp.GetOwnerId(); got != owner.String() {
			err = errs.Internal(fmt.Errorf("history of owner %q, requested that of %s", got, owner))
		}
		received <- hoursPage{ListHistoricalHoldingsResponse: resp, err: err}
	}()
	return received
}

// hourAssembler puts hours together: of those that have only changes, and the parts of one that continues on the next
// page.
type hourAssembler struct {
	visit       func(snapshot.HourHoldings) error
	first, last time.Time // the hours that were requested
	next        time.Time // the first hour that was not visited

	tokens  assets
	hour    time.Time // whose parts are being read; zero without one
	wallets map[string]*pastWallet
	ids     []string // of wallets, in order
	prices  map[string]valuation.Price
	blocks  map[string]time.Time // by chain
	// changed: a wallet holds something else than in the hour that was visited last, or there is none.
	changed bool
	part    string // the id of the last wallet
}

// pastWallet is a wallet as it is in the last hour that tells of it.
type pastWallet struct {
	wallet   valuation.Wallet
	hour     time.Time // that tells of it
	chain    string
	holdings []valuation.Holding // without prices
}

// learn takes the tokens of a page.
func (a *hourAssembler) learn(tokens []*walletv1.Token) {
	if a.tokens == nil {
		a.tokens = assets{}
	}
	maps.Copy(a.tokens, assetsOf(tokens, nil))
}

// add takes the next part of the response. Hours have to follow each other without
// a gap.
func (a *hourAssembler) add(h *walletv1.HistoricalHoldings) error {
	at := h.GetHourTime().AsTime()
	if a.hour.IsZero() || !at.Equal(a.hour) {
		if err := a.visitCurrent(); err != nil {
			return err
		}
		if !at.Equal(a.next) || at.After(a.last) {
			return errs.Internal(fmt.Errorf("history has the hour %s where %s is next, of %s to %s",
				at, a.next, a.first, a.last))
		}
		if h.GetOnlyChanges() && a.wallets == nil {
			return errs.Internal(fmt.Errorf("history begins with the changes of the hour %s", at))
		}
		if !h.GetOnlyChanges() {
			a.wallets, a.ids, a.changed = map[string]*pastWallet{}, nil, true
		}
		a.hour, a.part = at, ""
		a.prices, a.blocks = map[string]valuation.Price{}, map[string]time.Time{}
	}
	for _, p := range h.GetPrices() {
		v := priceFromProto(p)
		if v.Time.After(at) {
			return errs.Internal(fmt.Errorf("price of %s is of %s, after the hour %s", p.GetTokenId(), v.Time, at))
		}
		a.prices[p.GetTokenId()] = v
	}
	for _, b := range h.GetBlocks() {
		if b.GetBlockTime() != nil {
			a.blocks[b.GetChainId()] = b.GetBlockTime().AsTime()
		}
	}
	for _, w := range h.GetWallets() {
		if err := a.addWallet(w); err != nil {
			return err
		}
	}
	return nil
}

// addWallet takes a wallet, or the next part of one.
func (a *hourAssembler) addWallet(w *walletv1.WalletHoldings) error {
	id := w.GetWalletId()
	of := a.wallets[id]
	if of == nil {
		of = &pastWallet{}
		a.wallets[id] = of
		a.ids = append(a.ids, id)
	}
	if id != a.part {
		wallet := walletFromProto(w)
		// Before its chain began a wallet is synced without a block, and so without
		// a time.
		wallet.Synced = wallet.Synced || w.GetSync().GetState() == walletv1.SyncState_SYNC_STATE_SYNCED
		chain := w.GetAccount()
		*of = pastWallet{wallet: wallet, hour: a.hour, chain: chain[:max(0, strings.LastIndex(chain, ":"))]}
		a.part, a.changed = id, true
	}
	markets, err := a.tokens.markets(w)
	if err != nil {
		return err
	}
	noteUnknown(&of.wallet, markets)
	of.holdings = append(of.holdings, valuation.InMarkets(markets)...)
	for _, held := range w.GetHoldings() {
		v, err := a.tokens.holding(held)
		if err != nil {
			return err
		}
		v.WalletID = id
		of.holdings = append(of.holdings, v)
	}
	if len(of.holdings) > maxHoldings {
		return tooManyHoldings()
	}
	return nil
}

// visitCurrent passes the current hour on: all of its parts were read.
func (a *hourAssembler) visitCurrent() error {
	if a.hour.IsZero() {
		return nil
	}
	h := snapshot.HourHoldings{Time: a.hour, Prices: a.prices, SameAmounts: !a.changed,
		Wallets: make([]valuation.Wallet, 0, len(a.ids))}
	slices.Sort(a.ids)
	for _, id := range a.ids {
		of := a.wallets[id]
		wallet := of.wallet
		if at, ok := a.blocks[of.chain]; ok && wallet.Synced && !wallet.SyncFailed && of.hour.Before(a.hour) {
			wallet.SyncTime = at
		}
		h.Wallets = append(h.Wallets, wallet)
		if !a.changed {
			continue
		}
		for _, held := range of.holdings {
			held.Price = valuation.PriceOf(a.prices, held.TokenID, held.Price)
			h.Holdings = append(h.Holdings, held)
		}
		if len(h.Holdings) > maxHoldings {
			return tooManyHoldings()
		}
	}
	if err := a.visit(h); err != nil {
		return err
	}
	a.hour, a.changed, a.next = time.Time{}, false, a.hour.Add(time.Hour)
	return nil
}

// finish is called after the last page. An owner without wallets has no hours; any
// other has all that were requested.
func (a *hourAssembler) finish() error {
	if err := a.visitCurrent(); err != nil {
		return err
	}
	if a.next.Equal(a.first) {
		a.next = a.last.Add(time.Hour)
	}
	if !a.next.After(a.last) {
		return errs.Unavailable("WALLET_UNAVAILABLE", "the wallets changed while their history was read")
	}
	return nil
}
