package holdings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// leastPage is the time that reading another page takes.
const leastPage = 100 * time.Millisecond

// Hours implements snapshot.History.
func (r *Reader) Hours(ctx context.Context, owner uuid.UUID, first, last time.Time,
	visit func(snapshot.Hour) error) (time.Time, error) {
	a := &assembly{visit: visit, first: first, last: last, next: first}
	for token := ""; ; {
		if end, ok := ctx.Deadline(); ok && time.Until(end) < leastPage {
			return a.next, nil
		}
		resp, err := r.client.ListHistoricalHoldings(ctx, &walletv1.ListHistoricalHoldingsRequest{
			StartTime: timestamppb.New(first),
			// No later than it has to be: last may have begun just now.
			EndTime:  timestamppb.New(last.Add(time.Nanosecond)),
			PageSize: pageSize, PageToken: token, OwnerId: owner.String(),
		})
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return a.next, nil
			}
			return a.next, away(err)
		}
		if got := resp.GetOwnerId(); got != owner.String() {
			return a.next, errs.Internal(fmt.Errorf("asked for the history of %s, answered with that of %q", owner,
				got))
		}
		for _, h := range resp.GetHours() {
			if err := a.add(h); err != nil {
				return a.next, err
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			err := a.end()
			return a.next, err
		}
	}
}

// assembly puts hours together that go over pages.
type assembly struct {
	visit       func(snapshot.Hour) error
	first, last time.Time // that were asked for
	next        time.Time // the first that wasn't visited
	open        *snapshot.Hour
	wallet      string // the last one of open
}

// add takes the next part of the answer. Its hours have to come one after the
// other, without a gap.
func (a *assembly) add(h *walletv1.HistoricalHoldings) error {
	at := h.GetHourTime().AsTime()
	if a.open == nil || !at.Equal(a.open.At) {
		if err := a.close(); err != nil {
			return err
		}
		if !at.Equal(a.next) || at.After(a.last) {
			return errs.Internal(fmt.Errorf("history of %s where that of %s is due", at, a.next))
		}
		a.open, a.wallet = &snapshot.Hour{At: at}, ""
	}
	for _, w := range h.GetWallets() {
		if w.GetWalletId() != a.wallet {
			a.wallet = w.GetWalletId()
			seen := walletFrom(w)
			// Before its chain began there was nothing, and no block to name.
			seen.Synced = seen.Synced || w.GetSync().GetState() == walletv1.SyncState_SYNC_STATE_SYNCED
			a.open.Wallets = append(a.open.Wallets, seen)
		}
		for _, held := range w.GetHoldings() {
			v, err := holdingFrom(held)
			if err != nil {
				return err
			}
			if v.PriceTime.After(at) {
				return errs.Internal(fmt.Errorf("price of %s from after %s", v.TokenID, at))
			}
			a.open.Holdings = append(a.open.Holdings, v)
		}
	}
	if len(a.open.Holdings) > maxPages*pageSize {
		return tooMany()
	}
	return nil
}

// close hands over the hour that is whole.
func (a *assembly) close() error {
	if a.open == nil {
		return nil
	}
	if err := a.visit(*a.open); err != nil {
		return err
	}
	a.open, a.next = nil, a.open.At.Add(time.Hour)
	return nil
}

// end is after the last page. Who has no wallets has no hours, and who has any
// has all.
func (a *assembly) end() error {
	if err := a.close(); err != nil {
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
