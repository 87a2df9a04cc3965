package holdings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
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

// hourAssembler joins the parts of hours that continue on the next page.
type hourAssembler struct {
	visit       func(snapshot.HourHoldings) error
	first, last time.Time // the hours that were requested
	next        time.Time // the first hour that was not visited

	current       *snapshot.HourHoldings // the hour whose parts are being read
	currentWallet string                 // the id of its last wallet
}

// add takes the next part of the response. Hours have to follow each other without
// a gap.
func (a *hourAssembler) add(h *walletv1.HistoricalHoldings) error {
	at := h.GetHourTime().AsTime()
	if a.current == nil || !at.Equal(a.current.Time) {
		if err := a.visitCurrent(); err != nil {
			return err
		}
		if !at.Equal(a.next) || at.After(a.last) {
			return errs.Internal(fmt.Errorf("history has the hour %s where %s is next, of %s to %s",
				at, a.next, a.first, a.last))
		}
		a.current, a.currentWallet = &snapshot.HourHoldings{Time: at}, ""
	}
	for _, w := range h.GetWallets() {
		if w.GetWalletId() != a.currentWallet {
			a.currentWallet = w.GetWalletId()
			wallet := walletFromProto(w)
			// Before its chain began a wallet is synced without a block, and so without
			// a time.
			wallet.Synced = wallet.Synced || w.GetSync().GetState() == walletv1.SyncState_SYNC_STATE_SYNCED
			a.current.Wallets = append(a.current.Wallets, wallet)
		}
		for _, held := range w.GetHoldings() {
			v, err := holdingFromProto(held)
			if err != nil {
				return err
			}
			if v.Price.Time.After(at) {
				return errs.Internal(fmt.Errorf("price of %s is of %s, after the hour %s", v.TokenID, v.Price.Time,
					at))
			}
			v.WalletID = w.GetWalletId()
			a.current.Holdings = append(a.current.Holdings, v)
		}
	}
	if len(a.current.Holdings) > maxHoldings {
		return tooManyHoldings()
	}
	return nil
}

// visitCurrent passes the current hour on: all of its parts were read.
func (a *hourAssembler) visitCurrent() error {
	if a.current == nil {
		return nil
	}
	if err := a.visit(*a.current); err != nil {
		return err
	}
	a.current, a.next = nil, a.current.Time.Add(time.Hour)
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
