package holdings_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// fakeHistory is a wallet service that returns the n-th page of a history, from 0.
type fakeHistory struct {
	walletv1.HoldingsServiceClient // nil: the other methods
	serve                          func(ctx context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error)
	requests                       []*walletv1.ListHistoricalHoldingsRequest
}

func (a *fakeHistory) ListHistoricalHoldings(ctx context.Context, r *walletv1.ListHistoricalHoldingsRequest,
	_ ...grpc.CallOption) (*walletv1.ListHistoricalHoldingsResponse, error) {
	a.requests = append(a.requests, r)
	resp, err := a.serve(ctx, len(a.requests)-1)
	if resp != nil && resp.OwnerId == "" {
		resp.OwnerId = r.GetOwnerId()
	}
	return resp, grpcerr.FromError(err)
}

func hour(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }

func hourOf(n int, w ...*walletv1.WalletHoldings) *walletv1.HistoricalHoldings {
	_, prices := assetsIn(w)
	return &walletv1.HistoricalHoldings{HourTime: timestamppb.New(hour(n)), Wallets: w, Prices: prices}
}

// historyPage is a page of these hours; more follow unless it is the last.
func historyPage(more bool, hours ...*walletv1.HistoricalHoldings) *walletv1.ListHistoricalHoldingsResponse {
	resp := &walletv1.ListHistoricalHoldingsResponse{Hours: hours}
	for _, h := range hours {
		tokens, _ := assetsIn(h.GetWallets())
		resp.Tokens = append(resp.Tokens, tokens...)
	}
	if more {
		resp.NextPageToken = "more"
	}
	return resp
}

// hours reads the hours 1 to 3, and returns those that were visited, with the number
// of their wallets and holdings, and the next hour.
func hours(ctx context.Context, a *fakeHistory, visit func(snapshot.HourHoldings) error) (string, string, error) {
	var seen []string
	next, err := holdings.NewReader(a).ReadHours(ctx, uuid.New(), hour(1), hour(3),
		func(h snapshot.HourHoldings) error {
			seen = append(seen, fmt.Sprintf("%d: %d/%d", h.Time.Hour(), len(h.Wallets), len(h.Holdings)))
			if visit == nil {
				return nil
			}
			return visit(h)
		})
	return strings.Join(seen, " "), next.Format("15"), err
}

func TestHoursAreWholeWhereverTheirPagesEnd(t *testing.T) {
	late := holdingOf("x", "1", 0)
	of, _ := assetsOf.Load(late)
	of.(asset).price.PriceTime = timestamppb.New(hour(1).Add(time.Second))
	x := holdingOf("x", "1", 0)
	unavailable := status.Error(codes.Unavailable, "unavailable")
	for _, tc := range []struct {
		name       string
		pages      []*walletv1.ListHistoricalHoldingsResponse
		err        error // after the pages
		seen, next string
		reason     string
	}{
		{"one page", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false, hourOf(1, walletOf("a", x)),
			hourOf(2, walletOf("a")),
			hourOf(3, walletOf("a", x, x), walletOf("b")))}, nil, "1: 1/1 2: 1/0 3: 2/2", "04", ""},
		{
			"an hour and a wallet over three, one of them empty", []*walletv1.ListHistoricalHoldingsResponse{
				historyPage(true, hourOf(1, walletOf("a", x), walletOf("b", x))), historyPage(true),
				historyPage(true, hourOf(1, walletOf("b", x)), hourOf(2, walletOf("a"))),
				historyPage(false, hourOf(3, walletOf("a"))),
			}, nil, "1: 2/3 2: 1/0 3: 1/0", "04", "",
		},
		{"no wallets", []*walletv1.ListHistoricalHoldingsResponse{historyPage(true), historyPage(false)}, nil, "",
			"04", ""},
		{"unavailable at once", nil, unavailable, "", "01", "WALLET_UNAVAILABLE"},
		{"unavailable after an hour that may go on",
			[]*walletv1.ListHistoricalHoldingsResponse{historyPage(true, hourOf(1, walletOf("a", x)))}, unavailable,
			"", "01",
			"WALLET_UNAVAILABLE"},
		{"unavailable after the next has begun",
			[]*walletv1.ListHistoricalHoldingsResponse{historyPage(true, hourOf(1, walletOf("a", x)),
				hourOf(2, walletOf("a")))}, unavailable, "1: 1/1", "02", "WALLET_UNAVAILABLE"},
		{"another reads it", nil, grpcerr.ToStatus(errs.Exhausted("HISTORY_READ_UNDER_WAY", "under way")).Err(), "",
			"01", "HISTORY_READ_UNDER_WAY"},
		{"a gap", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false, hourOf(1, walletOf("a")),
			hourOf(3, walletOf("a")))}, nil,
			"1: 1/0", "02", "INTERNAL"},
		{"the first is not there", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false,
			hourOf(2, walletOf("a")))}, nil, "",
			"01", "INTERNAL"},
		{"an hour again", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false, hourOf(1, walletOf("a")),
			hourOf(2, walletOf("a")),
			hourOf(1, walletOf("a")))}, nil, "1: 1/0 2: 1/0", "03", "INTERNAL"},
		{"one that wasn't asked for", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false,
			hourOf(1, walletOf("a")),
			hourOf(2, walletOf("a")), hourOf(3, walletOf("a")), hourOf(4, walletOf("a")))}, nil,
			"1: 1/0 2: 1/0 3: 1/0", "04", "INTERNAL"},
		{"the last is not there", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false,
			hourOf(1, walletOf("a")),
			hourOf(2, walletOf("a")))}, nil, "1: 1/0 2: 1/0", "03", "WALLET_UNAVAILABLE"},
		{"a price of later", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false,
			hourOf(1, walletOf("a", late)))}, nil, "",
			"01", "INTERNAL"},
		{"an amount that is none", []*walletv1.ListHistoricalHoldingsResponse{historyPage(false,
			hourOf(1, walletOf("a", holdingOf("x", "1e9", 0))))}, nil, "", "01", "INTERNAL"},
		{"another owner's", []*walletv1.ListHistoricalHoldingsResponse{{OwnerId: uuid.NewString(),
			Hours: []*walletv1.HistoricalHoldings{hourOf(1, walletOf("a"))}}}, nil, "", "01", "INTERNAL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &fakeHistory{serve: func(_ context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
				if n < len(tc.pages) {
					return tc.pages[n], nil
				}
				return nil, tc.err
			}}
			seen, next, err := hours(t.Context(), a, nil)
			if seen != tc.seen || next != tc.next {
				t.Errorf("visited %q, next %s", seen, next)
			}
			if e := errs.As(err); tc.reason == "" && err != nil ||
				tc.reason != "" && (e == nil || e.Reason != tc.reason) {
				t.Errorf("answered %v, want %q", err, tc.reason)
			}
			if r := a.requests[0]; !r.GetStartTime().AsTime().Equal(hour(1)) ||
				!r.GetEndTime().AsTime().Equal(hour(3).Add(1)) || r.GetPageSize() != 10_000 {
				t.Errorf("asked for %v", r)
			}
		})
	}
}

func TestTheSyncOfAWalletComesWithEachHour(t *testing.T) {
	for name, tc := range map[string]struct {
		sync *walletv1.Sync
		want valuation.Wallet
	}{
		"a block": {&walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED,
			SyncTime: timestamppb.New(hour(0))}, valuation.Wallet{Synced: true, SyncTime: hour(0)}},
		"before the chain began": {&walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED},
			valuation.Wallet{Synced: true}},
		"a token was not read": {&walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED,
			Error: "not readable: X"}, valuation.Wallet{Synced: true, SyncError: "not readable: X"}},
		"not to be had": {&walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED, Error: "pruned"},
			valuation.Wallet{SyncFailed: true, SyncError: "pruned"}},
		"nothing said": {nil, valuation.Wallet{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := walletOf("a")
			w.Sync = tc.sync
			a := &fakeHistory{serve: func(context.Context, int) (*walletv1.ListHistoricalHoldingsResponse, error) {
				return historyPage(false, hourOf(1, w), hourOf(2, w), hourOf(3, w)), nil
			}}
			tc.want.ID, tc.want.Account = "a", "account a"
			_, _, err := hours(t.Context(), a, func(h snapshot.HourHoldings) error {
				if !reflect.DeepEqual(h.Wallets[0], tc.want) {
					t.Errorf("%+v", h.Wallets[0])
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnHourThatCantBeStoredEndsTheReading(t *testing.T) {
	broken := errors.New("broken")
	a := &fakeHistory{serve: func(context.Context, int) (*walletv1.ListHistoricalHoldingsResponse, error) {
		return historyPage(false, hourOf(1, walletOf("a")), hourOf(2, walletOf("a")), hourOf(3, walletOf("a"))), nil
	}}
	seen, next, err := hours(t.Context(), a, func(h snapshot.HourHoldings) error {
		if h.Time.Equal(hour(2)) {
			return broken
		}
		return nil
	})
	if seen != "1: 1/0 2: 1/0" || next != "02" || !errors.Is(err, broken) {
		t.Errorf("visited %q, next %s, %v", seen, next, err)
	}
}

func TestAReadingEndsWithItsTimeAndKeepsWhatIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := &fakeHistory{serve: func(ctx context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
			if n == 0 {
				return historyPage(true, hourOf(1, walletOf("a")), hourOf(2, walletOf("a"))), nil
			}
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}
		if seen, next, err := hours(ctx, a, nil); seen != "1: 1/0" || next != "02" || err != nil {
			t.Errorf("visited %q, next %s, %v", seen, next, err)
		}
		if seen, next, err := hours(ctx, a, nil); seen != "" || next != "01" || err != nil || len(a.requests) != 2 {
			t.Errorf("without time: visited %q, next %s, %v, asked %d times", seen, next, err, len(a.requests))
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := hours(canceled, a, nil); err == nil {
			t.Error("a canceled call is answered")
		}
	})
}

// The next page is read while the hours of one are valued and stored.
func TestTheNextPageIsReadMeanwhile(t *testing.T) {
	requested := make(chan struct{})
	a := &fakeHistory{serve: func(_ context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
		if n == 1 {
			close(requested)
		}
		return historyPage(n == 0, hourOf(2*n+1, walletOf("a")), hourOf(2*n+2, walletOf("a"))), nil
	}}
	var visited []int
	next, err := holdings.NewReader(a).ReadHours(t.Context(), uuid.New(), hour(1), hour(4),
		func(h snapshot.HourHoldings) error {
			select {
			case <-requested:
			case <-t.Context().Done():
				t.Error("the second page was not requested")
			}
			visited = append(visited, h.Time.Hour())
			return nil
		})
	if err != nil || !next.Equal(hour(5)) || !slices.Equal(visited, []int{1, 2, 3, 4}) {
		t.Errorf("visited %v, then %s, %v", visited, next, err)
	}
}

// A page that is being read when the reading ends is not waited for, and its request has ended.
func TestAPageThatIsNotNeededIsNotWaitedFor(t *testing.T) {
	ended := false
	a := &fakeHistory{serve: func(ctx context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
		if n == 1 {
			<-ctx.Done()
			ended = true
			return nil, ctx.Err()
		}
		return historyPage(true, hourOf(1, walletOf("a")), hourOf(2, walletOf("a"))), nil
	}}
	full := errors.New("the disk is full")
	_, err := holdings.NewReader(a).ReadHours(t.Context(), uuid.New(), hour(1), hour(4),
		func(snapshot.HourHoldings) error { return full })
	if !errors.Is(err, full) || len(a.requests) == 2 && !ended {
		t.Errorf("%v after %d requests, the last of which ended: %v", err, len(a.requests), ended)
	}
}

// Hours that have only changes are whole for whoever visits them: with the wallets that are left out, the prices of
// the hour, and the block of their chain.
func TestHoursOfChangesAreWhole(t *testing.T) {
	changes := func(n int, w ...*walletv1.WalletHoldings) *walletv1.HistoricalHoldings {
		h := hourOf(n, w...)
		h.OnlyChanges = true
		h.Prices = []*walletv1.Price{{TokenId: "x", Price: fmt.Sprint(n), PriceTime: timestamppb.New(hour(n))}}
		h.Blocks = []*walletv1.HistoricalBlock{{ChainId: "eip155:1", BlockTime: timestamppb.New(hour(n))}}
		return h
	}
	wallet := func(id string, h ...*walletv1.Holding) *walletv1.WalletHoldings {
		w := walletOf(id, h...)
		w.Account = "eip155:1:" + id
		w.Sync = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED, SyncTime: timestamppb.New(hour(0))}
		return w
	}
	x, more := holdingOf("x", "1", 0), holdingOf("x", "2", 0)
	failed := wallet("a")
	failed.Sync = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED, Error: "pruned"}
	pages := []*walletv1.ListHistoricalHoldingsResponse{
		historyPage(true, hourOf(1, wallet("b", x), wallet("a", x)), changes(2), changes(3, wallet("b", more))),
		historyPage(true, changes(3, wallet("b", x)), changes(4, failed), changes(5)),
		historyPage(false, hourOf(6, wallet("a", x))),
	}
	a := &fakeHistory{serve: func(_ context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
		return pages[n], nil
	}}
	var seen []string
	_, err := holdings.NewReader(a).ReadHours(t.Context(), uuid.New(), hour(1), hour(6),
		func(h snapshot.HourHoldings) error {
			text := fmt.Sprintf("%d:", h.Time.Hour())
			for _, w := range h.Wallets {
				text += fmt.Sprintf(" %s synced at %d failed %t", w.Account, w.SyncTime.Hour(), w.SyncFailed)
			}
			for _, held := range h.Holdings {
				text += fmt.Sprintf(" %s at %s", held.Amount, held.Price.Amount)
			}
			if h.SameAmounts {
				text += " as before at " + h.Prices["x"].Amount
			}
			seen = append(seen, text)
			return nil
		})
	want := []string{
		"1: eip155:1:a synced at 0 failed false eip155:1:b synced at 0 failed false 1 at 5 1 at 5",
		"2: eip155:1:a synced at 2 failed false eip155:1:b synced at 2 failed false as before at 2",
		"3: eip155:1:a synced at 3 failed false eip155:1:b synced at 0 failed false 1 at 3 2 at 3 1 at 3",
		"4: eip155:1:a synced at 0 failed true eip155:1:b synced at 4 failed false 2 at 4 1 at 4",
		"5: eip155:1:a synced at 0 failed true eip155:1:b synced at 5 failed false as before at 5",
		"6: eip155:1:a synced at 0 failed false 1 at 5",
	}
	if err != nil || !slices.Equal(seen, want) {
		t.Errorf("%v, visited\n%s\nwant\n%s", err, strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	a.requests = nil
	pages = []*walletv1.ListHistoricalHoldingsResponse{historyPage(false, changes(1))}
	_, err = holdings.NewReader(a).ReadHours(t.Context(), uuid.New(), hour(1), hour(1),
		func(snapshot.HourHoldings) error { return nil })
	if !errs.Is(err, errs.KindInternal) {
		t.Errorf("changes of nothing: %v", err)
	}
}
