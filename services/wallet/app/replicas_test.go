package app_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func startReplicas(t *testing.T, more ...string) servicetest.Replicas[service] {
	t.Helper()
	db, i := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	return servicetest.StartReplicas(t, func(redisURL string, logs io.Writer) service {
		return replica(t, db, i, redisURL, tokenList, logs, more...)
	})
}

// list is the owner's wallets as text, in both views.
func (s service) list(ctx context.Context, t *testing.T) string {
	t.Helper()
	var out []string
	for _, view := range []walletv1.WalletView{walletv1.WalletView_WALLET_VIEW_BASIC,
		walletv1.WalletView_WALLET_VIEW_WITH_BALANCES} {
		resp, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{View: view})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range resp.GetWallets() {
			line := w.GetLabel() + " " + strings.TrimPrefix(w.GetSync().GetState().String(), "SYNC_STATE_")
			for _, b := range w.GetBalances() {
				line += fmt.Sprintf(" %s %s", b.GetAmount(), b.GetToken().GetSymbol())
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, ", ")
}

func TestWhatOneReplicaWritesTheOtherAnswersAtOnce(t *testing.T) {
	r := startReplicas(t)
	ctx, other := r.A.user(t), r.A.user(t)
	polygon := strings.Replace(account, ":1:", ":137:", 1)
	w := r.A.create(ctx, t, polygon)
	const token = "eip155:137/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	r.A.exec(t, "INSERT INTO balances VALUES ($1, $2, 7, 1, '', now())", w.GetId(), token)
	theirs := r.A.create(other, t, polygon)
	var second string // the id of the second wallet
	for _, step := range []struct {
		name  string
		write func() error
		want  string
		token string
	}{
		{"nothing is written", func() error { return nil }, "cold PENDING, cold PENDING 7 BBB", "BBB"},
		{"a wallet is renamed", func() error {
			_, err := r.A.wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "warm"})
			return err
		}, "warm PENDING, warm PENDING 7 BBB", "BBB"},
		{"a sync fails", func() error {
			_, err := r.A.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
			servicetest.WantError(t, err, errs.KindUnavailable, "CHAIN_UNAVAILABLE")
			return nil
		}, "warm FAILED, warm FAILED 7 BBB", "BBB"},
		{"a replica starts with another token list", func() error {
			replica(t, r.A.db, r.A.issuer, r.Redis.URL(), strings.Replace(tokenList, "BBB", "CCC", 1), r.Logs)
			return nil
		}, "warm FAILED, warm FAILED 7 CCC", "CCC"},
		{"another user deletes their wallet", func() error {
			_, err := r.A.wallets.DeleteWallet(other, &walletv1.DeleteWalletRequest{WalletId: theirs.GetId()})
			return err
		}, "warm FAILED, warm FAILED 7 CCC", "CCC"},
		{"a second wallet is added", func() error {
			_, err := r.A.wallets.CreateWallet(ctx,
				&walletv1.CreateWalletRequest{Account: account, Label: "new", AllowUnconfiguredChain: true})
			return err
		}, "warm FAILED, new PENDING, warm FAILED 7 CCC, new PENDING", "CCC"},
		{"the second is archived", func() error {
			list, err := r.A.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
			if err != nil || len(list.GetWallets()) != 2 {
				t.Fatal(list, err)
			}
			second = list.GetWallets()[1].GetId()
			_, err = r.A.wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: second})
			return err
		}, "warm FAILED, warm FAILED 7 CCC", "CCC"},
		{"it is restored", func() error {
			_, err := r.A.wallets.RestoreWallet(ctx, &walletv1.RestoreWalletRequest{WalletId: second})
			return err
		}, "warm FAILED, new PENDING, warm FAILED 7 CCC, new PENDING", "CCC"},
		{"the first is deleted", func() error {
			_, err := r.A.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: w.GetId()})
			return err
		}, "new PENDING, new PENDING", "CCC"},
	} {
		if err := step.write(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for name, s := range map[string]service{"the writer": r.A, "the other": r.B} {
			r.WantFresh(t, step.name+": "+name+" answers", step.want, func() string { return s.list(ctx, t) })
		}
		r.WantFresh(t, step.name+": the token is", step.token, func() string {
			got, err := r.B.tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: token})
			if err != nil {
				t.Fatal(err)
			}
			return got.GetToken().GetSymbol()
		})
	}
	if got := r.B.list(other, t); got != "" {
		t.Errorf("the other user has %q", got)
	}
}

// The control of the test above: what is written past the service is not seen,
// since the answers come from the cache.
func TestAWriteThatBypassesTheServiceIsNotSeen(t *testing.T) {
	r := startReplicas(t)
	ctx := r.A.user(t)
	w := r.A.create(ctx, t, account)
	tries := 0
	testkit.Eventually(t, 10*time.Second, func() bool { // the first answers may have gone round a busy Redis
		tries++
		before := r.B.list(ctx, t)
		r.A.exec(t, "UPDATE wallets SET label = $2 WHERE id = $1", w.GetId(), fmt.Sprint(tries))
		return r.B.list(ctx, t) == before
	})
}

func TestAWriteWithoutRedisIsSeenByTheOtherReplicaOnceRedisIsBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		noted bool
	}{
		{"by the note in the outbox", true},
		{"and never without the note, since the old answer is still cached", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := startReplicas(t)
			ctx := r.A.user(t)
			w := r.A.create(ctx, t, account)
			const old, fresh = "cold PENDING, cold PENDING", "warm PENDING, warm PENDING"
			servicetest.WaitForOutbox(t, r.A.db) // or the note of the new wallet ends what is cached next
			servicetest.ReadUntilCached(t, r.Redis, func() {
				if got := r.B.list(ctx, t); got != old {
					t.Fatal(got)
				}
			}, map[string]int{"generation": 1, "wallets": 2})
			r.Redis.Kill()
			if _, err := r.A.wallets.UpdateWallet(ctx,
				&walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "warm"}); err != nil {
				t.Fatal(err)
			}
			if got := r.B.list(ctx, t); got != fresh {
				t.Errorf("while Redis is away: %q", got)
			}
			if !tc.noted {
				r.A.exec(t, "DELETE FROM cache_invalidations")
			}
			if err := r.Redis.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tc.noted {
				testkit.Eventually(t, 10*time.Second, func() bool { return r.B.list(ctx, t) == old })
				return
			}
			begin := time.Now()
			servicetest.WaitForOutbox(t, r.A.db)
			if got := r.B.list(ctx, t); got != fresh {
				t.Errorf("after the sweep: %q", got)
			}
			testkit.Figure(t, "the outbox was swept %s after the return of Redis",
				time.Since(begin).Round(time.Millisecond))
		})
	}
}

func TestASyncWhoseProcessDiedHasFailed(t *testing.T) {
	s := start(t)
	for _, tc := range []struct{ name, lease, want string }{
		{"within its lease it is under way", "now() + interval '1 hour'", "SYNC_STATE_SYNCING false false"},
		{"past its lease it has failed", "now()", "SYNC_STATE_FAILED true true"},
		{"one without a lease, of an earlier version, is left alone", "NULL", "SYNC_STATE_SYNCING false false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := s.user(t)
			w := s.create(ctx, t, account)
			s.exec(t, "UPDATE wallets SET sync_state = 'SYNCING', retry_at = "+tc.lease+" WHERE id = $1", w.GetId())
			one, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			list, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			held, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for method, got := range map[string]*walletv1.Sync{
				"GetWallet": one.GetWallet().GetSync(), "ListWallets": list.GetWallets()[0].GetSync(),
				"GetHoldings": held.GetWallets()[0].GetSync(),
			} {
				if text := fmt.Sprint(got.GetState(), got.GetError() != "",
					got.GetRetryTime() != nil); text != tc.want {
					t.Errorf("%s says %s, want %s", method, text, tc.want)
				}
			}
		})
	}
}
