package suitetest

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// recoveryTimeout bounds the time until a restarted server is used again.
const recoveryTimeout = 10 * time.Second

func TestEveryCallSucceedsWithoutRedis(t *testing.T) {
	s := start(t)
	c := dial(t, s.Endpoints)
	ctx, tokens := signIn(t, c)
	w := addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	before, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	everyCallSucceeds := func(when string) {
		t.Helper()
		got, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
		if err != nil || got.GetValuation().GetTotal() != before.GetValuation().GetTotal() {
			t.Errorf("%s: valuation %v, %v; want %s", when, got.GetValuation().GetTotal(), err,
				before.GetValuation().GetTotal())
		}
		_, syncErr := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		_, snapErr := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
		_, freshErr := c.Sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
		_, renameErr := c.Wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: when})
		for what, err := range map[string]error{
			"sync": syncErr, "snapshot": snapErr, "refresh": freshErr, "rename": renameErr,
			"user":     get(c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})),
			"timeline": get(c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{})),
			"token":    get(c.Tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: heldTokenID(t, ctx, c)})),
		} {
			if err != nil {
				t.Errorf("%s: %s: %v", when, what, err)
			}
		}
		signIn(t, c)
		testkit.Eventually(t, recoveryTimeout, func() bool { // after the outbox is swept, if Redis was unavailable
			list, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
			if err != nil {
				t.Errorf("%s: wallets: %v", when, err)
			}
			return len(list.GetWallets()) == 1 && list.GetWallets()[0].GetLabel() == when
		})
	}
	s.Redis.Kill()
	everyCallSucceeds("killed")
	if err := s.Redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	everyCallSucceeds("back")
	s.Redis.Pause()
	everyCallSucceeds("hung")
	s.Redis.Resume()
	everyCallSucceeds("back again")
}

func TestWithoutPostgresCallsAreUnavailableUntilItReturns(t *testing.T) {
	s := start(t, func(o *suite.Options) { o.Durable = true }) // committed data must survive the kill
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	w := addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	token := heldTokenID(t, ctx, c)
	cached := map[string]func() error{
		"user":     func() error { return get(c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})) },
		"wallets":  func() error { return get(c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})) },
		"token":    func() error { return get(c.Tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: token})) },
		"timeline": func() error { return get(c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{})) },
	}
	servicetest.ReadUntilCached(t, s.Redis, func() {
		for what, call := range cached {
			if err := call(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}, map[string]int{"user": 1, "wallets": 1, "token": 1, "timeline": 1, "generation": 2})
	s.Postgres.Kill()

	for what, call := range cached {
		t.Log("from the cache:", what)
		testkit.Eventually(t, recoveryTimeout, func() bool { return call() == nil })
	}
	login := func() error {
		return get(c.Sessions.Login(t.Context(),
			&authv1.LoginRequest{Email: "nobody@example.com", Password: "a password"}))
	}
	for what, call := range map[string]func() error{
		"sign in": login,
		"write": func() error {
			return get(c.Wallets.CreateWallet(ctx,
				&walletv1.CreateWalletRequest{Account: account(s, s.Chain.Holders()[1])}))
		},
		"read": func() error { return get(c.Wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})) },
		"sync": func() error {
			return get(c.Wallets.SyncWallet(ctx,
				&walletv1.SyncWalletRequest{WalletId: w.GetId()}))
		},
	} {
		if e := wantError(t, call(), codes.Unavailable, "DATABASE_UNAVAILABLE"); e.RetryAfter <= 0 {
			t.Errorf("%s: no RetryInfo in %v", what, e)
		}
	}
	// Verification needs no database.
	_, err := c.Wallets.GetWallet(t.Context(), &walletv1.GetWalletRequest{WalletId: w.GetId()})
	wantError(t, err, codes.Unauthenticated, "TOKEN_MISSING")
	if keys, err := c.Keys.GetJwks(t.Context(), &authv1.GetJwksRequest{}); err != nil || len(keys.GetKeys()) != 2 {
		t.Errorf("key set from memory: %v, %v", keys, err)
	}

	if err := s.Postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, recoveryTimeout, func() bool {
		return get(c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})) == nil &&
			errs.Is(login(), errs.KindUnauthenticated)
	})
}

// heldTokenID is the id of a token that the user holds.
func heldTokenID(t *testing.T, ctx context.Context, c *demo.Clients) string {
	t.Helper()
	v, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return v.GetValuation().GetPositions()[0].GetTokenId()
}

func TestWithoutTheChainOnlySyncFails(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	w := addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	if err := s.Chain.Close(); err != nil {
		t.Fatal(err)
	}
	s.Chain = nil
	_, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
	if e := wantError(t, err, codes.Unavailable, "CHAIN_UNAVAILABLE"); e.RetryAfter <= 0 {
		t.Errorf("no RetryInfo in %v", e)
	}
	got, err := c.Wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})
	if err != nil || got.GetWallet().GetSync().GetState() != walletv1.SyncState_SYNC_STATE_FAILED ||
		got.GetWallet().GetSync().GetBlockNumber() != w.GetSync().GetBlockNumber() {
		t.Errorf("the wallet says %v, %v", got.GetWallet().GetSync(), err)
	}
	v, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil || v.GetValuation().GetComplete() || len(v.GetValuation().GetPositions()) == 0 {
		t.Errorf("valuation %v, %v; want the old balances, marked incomplete", v, err)
	}
}

func TestWithoutWalletTheLastSnapshotIsServedAndNoneIsWritten(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	other, _ := signIn(t, c)
	addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	snap, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stopService(t, s, "wallet")
	v, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil || !v.GetValuation().GetStale() || v.GetValuation().GetComplete() ||
		v.GetValuation().GetTotal() != snap.GetSnapshot().GetTotal() {
		t.Errorf("valuation %v, %v; want the snapshot's %s, stale", v, err, snap.GetSnapshot().GetTotal())
	}
	_, err = c.Portfolios.GetValuation(other, &portfoliov1.GetValuationRequest{})
	wantError(t, err, codes.Unavailable, "WALLET_UNAVAILABLE")
	_, err = c.Portfolios.TakeSnapshot(other, &portfoliov1.TakeSnapshotRequest{})
	wantError(t, err, codes.Unavailable, "WALLET_UNAVAILABLE")
	list, err := c.Portfolios.ListSnapshots(other, &portfoliov1.ListSnapshotsRequest{})
	if err != nil || len(list.GetSnapshots()) != 0 {
		t.Errorf("snapshots %v, %v; want none", list, err)
	}
}

func TestWithoutAuthItsTokensAreStillVerified(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	if _, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{}); err != nil {
		t.Fatal(err)
	}
	stopService(t, s, "auth")
	if _, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{}); err != nil {
		t.Errorf("without auth: %v", err)
	}
	_, err := c.Portfolios.GetValuation(t.Context(), &portfoliov1.GetValuationRequest{})
	wantError(t, err, codes.Unauthenticated, "TOKEN_MISSING")
}
