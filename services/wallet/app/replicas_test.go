package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// pair is two replicas on one Redis and one database.
type pair struct {
	a, b  service
	redis *redisserver.Server
	logs  *journal
}

// journal is the log of both replicas.
type journal struct{ testkit.LogBuffer }

// redisWasSlow reports whether a cache gave up on Redis.
func (j *journal) redisWasSlow() bool {
	return strings.Contains(j.String(), "redis doesn't answer")
}

// atOnce fails the test unless get gives want: at once, or on a machine so
// busy that Redis gave no answer in time, once the outbox is swept.
func (j *journal) atOnce(t *testing.T, what, want string, get func() string) {
	t.Helper()
	if got := get(); got == want {
		return
	} else if !j.redisWasSlow() {
		t.Errorf("%s %q, want %q", what, got, want)
		return
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return get() == want })
}

func startPair(t *testing.T) pair {
	t.Helper()
	// What Redis has answered, it has after a crash.
	redis, err := redisserver.Start(t.Context(),
		redisserver.Options{Dir: t.TempDir(), Durable: true, Settings: map[string]string{"appendfsync": "always"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := pair{redis: redis, logs: &journal{}}
	db, i := testkit.Postgres(t, migrations.FS), newIssuer(t)
	p.a, p.b = replica(t, db, i, redis.URL(), tokenList, p.logs), replica(t, db, i, redis.URL(), tokenList, p.logs)
	return p
}

// swept waits until the outbox is empty.
func (p pair) swept(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() bool {
		var left int
		err := p.a.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM cache_invalidations").Scan(&left)
		return err == nil && left == 0
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

func (s service) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.SQL().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func TestWhatOneReplicaWritesTheOtherAnswersAtOnce(t *testing.T) {
	p := startPair(t)
	ctx, other := p.a.user(t), p.a.user(t)
	polygon := strings.Replace(account, ":1:", ":137:", 1)
	w := p.a.create(ctx, t, polygon)
	const token = "eip155:137/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	p.a.exec(t, "INSERT INTO balances VALUES ($1, $2, 7, 1, '', now())", w.GetId(), token)
	theirs := p.a.create(other, t, polygon)
	for _, step := range []struct {
		name  string
		write func() error
		want  string
		token string
	}{
		{"nothing is written", func() error { return nil }, "cold PENDING, cold PENDING 7 BBB", "BBB"},
		{"a wallet is renamed", func() error {
			_, err := p.a.wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "warm"})
			return err
		}, "warm PENDING, warm PENDING 7 BBB", "BBB"},
		{"a sync fails", func() error {
			_, err := p.a.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
			want(t, err, errs.KindUnavailable, "CHAIN_UNAVAILABLE")
			return nil
		}, "warm FAILED, warm FAILED 7 BBB", "BBB"},
		{"a replica starts with another token list", func() error {
			replica(t, p.a.db, p.a.issuer, p.redis.URL(), strings.Replace(tokenList, "BBB", "CCC", 1), p.logs)
			return nil
		}, "warm FAILED, warm FAILED 7 CCC", "CCC"},
		{"another user deletes their wallet", func() error {
			_, err := p.a.wallets.DeleteWallet(other, &walletv1.DeleteWalletRequest{WalletId: theirs.GetId()})
			return err
		}, "warm FAILED, warm FAILED 7 CCC", "CCC"},
		{"a second wallet is added", func() error {
			_, err := p.a.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account, Label: "new"})
			return err
		}, "warm FAILED, new PENDING, warm FAILED 7 CCC, new PENDING", "CCC"},
		{"the first is deleted", func() error {
			_, err := p.a.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: w.GetId()})
			return err
		}, "new PENDING, new PENDING", "CCC"},
	} {
		if err := step.write(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for replica, s := range map[string]service{"the writer": p.a, "the other": p.b} {
			p.logs.atOnce(t, step.name+": "+replica+" answers", step.want, func() string { return s.list(ctx, t) })
		}
		p.logs.atOnce(t, step.name+": the token is", step.token, func() string {
			got, err := p.b.tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: token})
			if err != nil {
				t.Fatal(err)
			}
			return got.GetToken().GetSymbol()
		})
	}
	if got := p.b.list(other, t); got != "" {
		t.Errorf("the other user has %q", got)
	}
}

// The control of the test above: what is written past the service is not seen,
// since the answers come from the cache.
func TestWhatIsWrittenPastTheServiceIsNotSeen(t *testing.T) {
	p := startPair(t)
	ctx := p.a.user(t)
	w := p.a.create(ctx, t, account)
	tries := 0
	testkit.Eventually(t, 10*time.Second, func() bool { // the first answers may have gone round a busy Redis
		tries++
		before := p.b.list(ctx, t)
		p.a.exec(t, "UPDATE wallets SET label = $2 WHERE id = $1", w.GetId(), fmt.Sprint(tries))
		return p.b.list(ctx, t) == before
	})
}

func TestAWriteWhileRedisIsAwayIsSeenByTheOtherReplicaOnceItIsBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		noted bool
	}{
		{"by the note in the outbox", true},
		{"and never without the note, since the old answer is still cached", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t)
			ctx := p.a.user(t)
			w := p.a.create(ctx, t, account)
			const old, fresh = "cold PENDING, cold PENDING", "warm PENDING, warm PENDING"
			p.swept(t)     // or the note of the new wallet ends what is cached next
			for range 10 { // so that it is cached, also when Redis is slow at times
				if got := p.b.list(ctx, t); got != old {
					t.Fatal(got)
				}
			}
			p.redis.Kill()
			if _, err := p.a.wallets.UpdateWallet(ctx,
				&walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "warm"}); err != nil {
				t.Fatal(err)
			}
			if got := p.b.list(ctx, t); got != fresh {
				t.Errorf("while Redis is away: %q", got)
			}
			if !tc.noted {
				p.a.exec(t, "DELETE FROM cache_invalidations")
			}
			if err := p.redis.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tc.noted {
				testkit.Eventually(t, 10*time.Second, func() bool { return p.b.list(ctx, t) == old })
				return
			}
			begin := time.Now()
			p.swept(t)
			if got := p.b.list(ctx, t); got != fresh {
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
