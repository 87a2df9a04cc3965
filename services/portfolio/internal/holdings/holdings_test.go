package holdings_test

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// wallet is a wallet service: it returns the n-th page, from 0.
type wallet func(ctx context.Context, n int) (*walletv1.GetHoldingsResponse, error)

type fakeClient struct {
	walletv1.HoldingsServiceClient // nil: the other methods
	t                              *testing.T
	serve                          wallet
	calls                          int
}

func (c *fakeClient) GetHoldings(ctx context.Context, r *walletv1.GetHoldingsRequest,
	_ ...grpc.CallOption) (*walletv1.GetHoldingsResponse, error) {
	n := c.calls
	c.calls++
	if want := fmt.Sprintf("page %d", n); r.GetPageToken() != want && (n != 0 || r.GetPageToken() != "") ||
		r.GetPageSize() != 10_000 {
		c.t.Errorf("call %d asks for %v", n, r)
	}
	resp, err := c.serve(ctx, n)
	if resp != nil && resp.OwnerId == "" {
		resp.OwnerId = r.GetOwnerId()
	}
	if resp.GetOwnerId() == "an older release" {
		resp.OwnerId = ""
	}
	if err != nil && ctx.Err() != nil {
		err = status.FromContextError(ctx.Err()).Err() // as gRPC answers
	}
	return resp, grpcerr.FromError(err)
}

func reader(t *testing.T, serve wallet) (*holdings.Reader, *fakeClient) {
	c := &fakeClient{t: t, serve: serve}
	return holdings.NewReader(c), c
}

// asset is the token and the price of a holding, which pages have beside it.
type asset struct {
	token *walletv1.Token
	price *walletv1.Price
}

// assetsOf has the assets of the holdings of the tests.
var assetsOf sync.Map

func holdingOf(id, amount string, decimals uint32) *walletv1.Holding {
	h := &walletv1.Holding{TokenId: id, Amount: amount}
	assetsOf.Store(h, asset{&walletv1.Token{Id: id, Symbol: "S", Decimals: decimals, Verified: true},
		&walletv1.Price{TokenId: id, Price: "5", Source: "test", Stale: true,
			PriceTime: timestamppb.New(time.Unix(7, 0))}})
	return h
}

// assetsIn returns the tokens and prices of what wallets hold.
func assetsIn(wallets []*walletv1.WalletHoldings) (tokens []*walletv1.Token, prices []*walletv1.Price) {
	for _, w := range wallets {
		for _, h := range w.GetHoldings() {
			if a, ok := assetsOf.Load(h); ok {
				tokens, prices = append(tokens, a.(asset).token), append(prices, a.(asset).price)
			}
		}
	}
	return tokens, prices
}

func walletOf(id string, h ...*walletv1.Holding) *walletv1.WalletHoldings {
	return &walletv1.WalletHoldings{WalletId: id, Account: "account " + id,
		Sync: &walletv1.Sync{SyncTime: timestamppb.Now()}, Holdings: h}
}

func page(n int, w ...*walletv1.WalletHoldings) *walletv1.GetHoldingsResponse {
	resp := &walletv1.GetHoldingsResponse{Wallets: w}
	resp.Tokens, resp.Prices = assetsIn(w)
	if n >= 0 {
		resp.NextPageToken = fmt.Sprintf("page %d", n)
	}
	return resp
}

const maxUint256 = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

func TestAllPagesAreReadAndAWalletOnTwoIsOne(t *testing.T) {
	failed := walletOf("c")
	failed.Sync = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED}
	pages := []*walletv1.GetHoldingsResponse{
		page(1, walletOf("a", holdingOf("x", "1", 0)), walletOf("b", holdingOf("x", maxUint256, 255))),
		page(2, walletOf("b", holdingOf("y", "0", 6))),
		page(3), // an empty page isn't the last
		page(-1, failed),
	}
	r, c := reader(t, func(_ context.Context, n int) (*walletv1.GetHoldingsResponse, error) { return pages[n], nil })
	wallets, held, err := r.Current(t.Context(), uuid.New())
	if err != nil || c.calls != 4 || len(wallets) != 3 || len(held) != 3 {
		t.Fatalf("%d calls, wallets %v, holdings %v, %v", c.calls, wallets, held, err)
	}
	if w := wallets[1]; w.Account != "account b" || !w.Synced || w.SyncFailed {
		t.Errorf("wallet %+v", w)
	}
	if w := wallets[2]; w.Synced || !w.SyncFailed {
		t.Errorf("wallet %+v", w)
	}
	if h := held[1]; h.Amount.String() != maxUint256 || h.Decimals != 255 || h.Price.Amount != "5" || !h.Price.Stale ||
		h.Price.Source != "test" || h.Price.Time.Unix() != 7 || !h.Verified || h.TokenID != "x" || h.Symbol != "S" {
		t.Errorf("holding %+v", h)
	}
}

func TestTheSyncOfAWalletComesWithIt(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		sync *walletv1.Sync
		want valuation.Wallet
	}{
		{"no sync", nil, valuation.Wallet{}},
		{"never synced", &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_PENDING}, valuation.Wallet{}},
		{"synced", &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED, SyncTime: timestamppb.New(at)},
			valuation.Wallet{Synced: true, SyncTime: at}},
		{
			"synced but for one token", &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCED,
				SyncTime: timestamppb.New(at), Error: "not readable: T1"},
			valuation.Wallet{Synced: true, SyncTime: at, SyncError: "not readable: T1"},
		},
		{
			"synced once, and failed since", &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED,
				SyncTime: timestamppb.New(at), Error: "no node answers"},
			valuation.Wallet{Synced: true, SyncTime: at, SyncFailed: true, SyncError: "no node answers"},
		},
		{
			"failed from the first", &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED,
				Error: "no node answers"},
			valuation.Wallet{SyncFailed: true, SyncError: "no node answers"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := walletOf("a")
			w.Sync = tc.sync
			tc.want.ID, tc.want.Account = "a", "account a"
			r, _ := reader(t, func(context.Context, int) (*walletv1.GetHoldingsResponse, error) {
				return page(-1, w),
					nil
			})
			wallets, _, err := r.Current(t.Context(), uuid.New())
			if err != nil || len(wallets) != 1 || !reflect.DeepEqual(wallets[0], tc.want) {
				t.Errorf("read %+v, %v; want %+v", wallets, err, tc.want)
			}
		})
	}
}

func TestAnEndlessListOfPagesEndsWithAnError(t *testing.T) {
	r, c := reader(t, func(_ context.Context, n int) (*walletv1.GetHoldingsResponse, error) {
		return page(n+1, walletOf("a")), nil
	})
	_, _, err := r.Current(t.Context(), uuid.New())
	if e := errs.As(err); e == nil || e.Reason != "TOO_MANY_HOLDINGS" || c.calls != 50 {
		t.Errorf("%d calls, %v", c.calls, err)
	}
}

func TestMalformedHoldingsAreAnInternalError(t *testing.T) {
	for name, h := range map[string]*walletv1.Holding{
		"no amount": holdingOf("x", "", 0), "words": holdingOf("x", "one", 0), "a point": holdingOf("x", "1.5", 0),
		"an exponent": holdingOf("x", "1e5", 0),
		"hexadecimal": holdingOf("x", "0x1", 0), "an underscore": holdingOf("x", "1_0", 0),
		"256 decimals": holdingOf("x", "1", 256),
		"nothing":      {},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := reader(t, func(context.Context, int) (*walletv1.GetHoldingsResponse, error) {
				return page(-1, walletOf("a", h)), nil
			})
			if _, _, err := r.Current(t.Context(), uuid.New()); !errs.Is(err, errs.KindInternal) {
				t.Errorf("answered %v", err)
			}
		})
	}
}

func TestFailuresOfTheWalletService(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		kind   errs.Kind
		reason string
	}{
		{"it is unavailable", errs.Unavailable("X", "x"), errs.KindUnavailable, "WALLET_UNAVAILABLE"},
		{"it takes too long", errs.Deadline("X", "x"), errs.KindUnavailable, "WALLET_UNAVAILABLE"},
		{"the caller may not read wallets", errs.PermissionDenied("PERMISSION_MISSING", "x"),
			errs.KindPermissionDenied, "PERMISSION_MISSING"},
		{"it limits the caller", errs.Exhausted("RATE_LIMITED", "x"), errs.KindExhausted, "RATE_LIMITED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := reader(t, func(_ context.Context, n int) (*walletv1.GetHoldingsResponse, error) {
				if n == 0 {
					return page(1, walletOf("a", holdingOf("x", "1", 0))), nil
				}
				return nil, tc.err
			})
			wallets, held, err := r.Current(t.Context(), uuid.New())
			if e := errs.As(err); e == nil || e.Kind != tc.kind || e.Reason != tc.reason || wallets != nil ||
				held != nil {
				t.Errorf("answered %v with %v and %v", err, wallets, held)
			}
		})
	}
}

func TestAServiceThatHangsLeavesTheCallerTime(t *testing.T) {
	for _, tc := range []struct {
		name         string
		caller, want time.Duration
	}{
		{"without a deadline", 0, 5 * time.Second},
		{"with one far away", time.Minute, 5 * time.Second},
		{"with one of four seconds", 4 * time.Second, 3 * time.Second},
		{"with one of 400 milliseconds", 400 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := reader(t, func(ctx context.Context, _ int) (*walletv1.GetHoldingsResponse, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				ctx := t.Context()
				if tc.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.caller)
					defer cancel()
				}
				begun := time.Now()
				_, _, err := r.Current(ctx, uuid.New())
				if e := errs.As(err); e == nil || e.Reason != "WALLET_UNAVAILABLE" || time.Since(begun) != tc.want ||
					ctx.Err() != nil {
					t.Errorf("after %s: %v; the caller: %v", time.Since(begun), err, ctx.Err())
				}
			})
		})
	}
}

// An older release returns the holdings of the token's user: in a job that is this
// service itself.
func TestHoldingsOfAnotherOwnerThanTheRequestedOneAreRefused(t *testing.T) {
	owner := uuid.New()
	for name, tt := range map[string]struct {
		answered string
		caller   authn.Caller
		accepted bool
	}{
		"an older one, by a job":        {"an older release", authn.Caller{}, false},
		"an older one, by its owner":    {"an older release", authn.Caller{UserID: owner}, true},
		"of somebody else, by a job":    {uuid.NewString(), authn.Caller{}, false},
		"of somebody else, by an owner": {uuid.NewString(), authn.Caller{UserID: owner}, false},
		"of the owner, by a job":        {owner.String(), authn.Caller{}, true},
	} {
		r, _ := reader(t, func(context.Context, int) (*walletv1.GetHoldingsResponse, error) {
			resp := page(-1, walletOf("a", holdingOf("x", "1", 0)))
			resp.OwnerId = tt.answered
			return resp, nil
		})
		_, _, err := r.Current(authn.WithCaller(t.Context(), tt.caller), owner)
		if (err == nil) != tt.accepted || err != nil && errs.As(err).Reason != "WALLET_UNAVAILABLE" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
