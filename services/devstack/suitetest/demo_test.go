package suitetest

import (
	"context"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/programs"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/suite"
)

// The main job, once with the three services in one process and as three programs
// with a database each: as they are, behind PgBouncer, and with mutual TLS. Every number
// of it is held against what the chain and the feed were seeded with.
func TestTheDemosValuesMatchChainAndPriceFeed(t *testing.T) {
	t.Parallel()
	t.Run("in one process", func(t *testing.T) {
		t.Parallel()
		s := start(t, func(o *suite.Options) { o.Extra = map[string][]string{"auth": suite.ShortKeys()} })
		runDemoAndCheck(t, s.Infrastructure, demo.Options{Endpoints: s.Endpoints,
			Rotate: func(ctx context.Context) error {
				_, err := s.AuthCommand(ctx, "keys", "rotate")
				return err
			}})
	})
	t.Run("as three programs", func(t *testing.T) {
		t.Parallel()
		b := startInfrastructure(t, suite.Options{})
		runDemoAndCheck(t, b, demo.Options{Endpoints: startPrograms(t, b)})
	})
	t.Run("as three programs, each behind PgBouncer in transaction mode", func(t *testing.T) {
		t.Parallel()
		b := startInfrastructure(t, suite.Options{})
		e, _ := startProcesses(t, b, behindPgBouncer(t))
		runDemoAndCheck(t, b, demo.Options{Endpoints: e})
	})
	t.Run("as three programs with mutual TLS", func(t *testing.T) {
		t.Parallel()
		b := startInfrastructure(t, suite.Options{})
		certificates, err := programs.NewCertificates(t.TempDir(), testca.New(t, "main"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := programs.StartSecured(t.Context(), builtPrograms(t), b, certificates)
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		runDemoAndCheck(t, b, demo.Options{Endpoints: s.Endpoints, Dial: certificates.Dial})
	})
}

// behindPgBouncer puts one before the database of each service, which migrates past it. Two connections are for all
// that happens at once, so that any transaction may be on any of them.
func behindPgBouncer(t *testing.T) func(string, []string) []string {
	return func(_ string, environ []string) []string {
		direct := setting(environ, "PURSER_DATABASE_URL")
		return suite.Override(environ, []string{
			"PURSER_DATABASE_URL=" + testkit.PgBouncer(t, direct, "transaction", false, "default_pool_size = 2"),
			"PURSER_DATABASE_PGBOUNCER=true", "PURSER_MIGRATE_DATABASE_URL=" + direct,
		})
	}
}

// runDemoAndCheck drives the demo; its step that rotates the signing key under
// calls fails when one of them does.
func runDemoAndCheck(t *testing.T, b *suite.Infrastructure, o demo.Options) {
	t.Helper()
	var accounts []string
	for _, h := range b.Chain.Holders() {
		accounts = append(accounts, "eip155:31337:"+h.Hex())
	}
	var out strings.Builder
	o.Email, o.Password, o.Accounts = "demo@example.com", "a password of a test", accounts
	o.Mails, o.History, o.Out = b.Mail, history, progress.New(&out)
	r, err := demo.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if err := r.Show(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"register", "sign in", "with the mailed code", "sync balances",
		"take snapshot", "TOKEN", "USDC", "SHARE", "Timeline", "Value by day", "Best day", "Worst day"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
	if rotated := strings.Contains(out.String(), "calls during the rotation, 0 failed"); rotated != (o.Rotate != nil) {
		t.Errorf("the key was rotated: %v\n%s", rotated, out.String())
	}
	for _, w := range r.Wallets {
		if w.GetSync().GetState() != walletv1.SyncState_SYNC_STATE_SYNCED {
			t.Errorf("wallet %s is %s", w.GetAccount(), w.GetSync().GetState())
		}
	}
	checkValuation(t, b.Chain, r)
	checkTimeline(t, r)
}

// checkValuation works every number out anew from the seeds.
func checkValuation(t *testing.T, c *chain.Chain, r *demo.Result) {
	t.Helper()
	v := r.Valuation
	if !v.GetComplete() || v.GetStale() || v.GetUnpricedCount() != 0 {
		t.Errorf("complete %v, stale %v, unpriced %d: %v", v.GetComplete(), v.GetStale(), v.GetUnpricedCount(),
			v.GetIncompleteReasons())
	}
	assets := map[string]common.Address{"ETH": chain.Native()}
	for _, token := range c.Tokens() {
		assets[token.Symbol] = token.Address
	}
	at := r.Wallets[0].GetSync().GetSyncTime().AsTime()
	total := new(big.Rat)
	seen := map[string]bool{}
	for _, p := range v.GetPositions() {
		seen[p.GetSymbol()] = true
		amount := new(big.Int)
		for _, h := range c.Holders() {
			amount.Add(amount, c.Expected(h, assets[p.GetSymbol()], at).ToBig())
		}
		if p.GetAmount() != amount.String() {
			t.Errorf("%s: amount %s, the chain was seeded with %s", p.GetSymbol(), p.GetAmount(), amount)
		}
		price, ok := prices.PriceAt(p.GetSymbol(), p.GetPriceTime().AsTime())
		if !ok || rat(t, p.GetPrice()).Cmp(rat(t, price)) != 0 {
			t.Errorf("%s: price %s, the feed was seeded with %s", p.GetSymbol(), p.GetPrice(), price)
		}
		value := new(big.Rat).SetInt(amount)
		value.Mul(value, rat(t, price))
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(p.GetDecimals())), nil)
		value.Quo(value, new(big.Rat).SetInt(scale))
		if off := new(big.Rat).Sub(value, rat(t, p.GetValue())); off.Abs(off).Cmp(big.NewRat(1, 200_000_000)) > 0 {
			t.Errorf("%s: value %s, want %s", p.GetSymbol(), p.GetValue(), value.FloatString(9))
		}
		total.Add(total, rat(t, p.GetValue()))
	}
	for symbol, asset := range assets {
		held := false
		for _, h := range c.Holders() {
			held = held || !c.Expected(h, asset, at).IsZero()
		}
		if held != seen[symbol] {
			t.Errorf("%s: held %v, in the valuation %v", symbol, held, seen[symbol])
		}
	}
	if total.Cmp(rat(t, v.GetTotal())) != 0 || total.Sign() <= 0 {
		t.Errorf("total %s, the positions add up to %s", v.GetTotal(), total.FloatString(8))
	}
}

// checkTimeline checks that the timelines end with the snapshot, after all backfilled hours.
func checkTimeline(t *testing.T, r *demo.Result) {
	t.Helper()
	if got := r.Snapshot.GetBucketTime().AsTime(); !got.Equal(got.Truncate(time.Hour)) || !r.Snapshot.GetComplete() {
		t.Errorf("snapshot %v", r.Snapshot)
	}
	hours := int(history / time.Hour)
	b := r.Backfill
	if b.Hours != hours || b.Done != hours || b.Stored != hours || b.Incomplete != 0 || b.StopReason != "" {
		t.Errorf("backfilled %+v", b)
	}
	if len(r.Hourly) != hours+1 || len(r.Days) < 3 || r.Best == nil || r.Worst == nil {
		t.Fatalf("%d hourly points, %d days, best %s, worst %s", len(r.Hourly), len(r.Days), r.Best, r.Worst)
	}
	for name, points := range map[string][]*portfoliov1.TimelinePoint{"hourly": r.Hourly, "daily": r.Daily,
		"of the chart": r.Days} {
		last := points[len(points)-1]
		if last.GetCarriedForward() || rat(t, last.GetClose()).Cmp(rat(t, r.Snapshot.GetTotal())) != 0 {
			t.Errorf("%s: %v, the snapshot says %s", name, last, r.Snapshot.GetTotal())
		}
	}
}

func rat(t *testing.T, decimal string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(decimal)
	if !ok {
		t.Fatalf("%q is no decimal", decimal)
	}
	return r
}

// 2^256-1 base units of a token that has no price: exact all the way, and
// unpriced, not an error.
func TestTheLargestAmountSurvivesFromChainToPortfolio(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	w := addWallet(t, ctx, c, account(s, s.Chain.Cast().Vault.Address))
	largest := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)).String()

	balances, err := c.Balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range balances.GetBalances() {
		found = found || b.GetToken().GetSymbol() == "MAX" && b.GetAmount() == largest
	}
	if !found {
		t.Errorf("no balance of %s MAX among %v", largest, balances.GetBalances())
	}

	for _, call := range []string{"the first time", "again, with prices cached"} {
		resp, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		found = false
		for _, p := range resp.GetValuation().GetPositions() {
			if p.GetSymbol() == "MAX" {
				found = p.GetAmount() == largest && p.GetValue() == "" && p.GetPrice() == "" &&
					p.GetUnpricedReason() == "NO_PRICE"
			}
		}
		if !found || resp.GetValuation().GetUnpricedCount() != 1 || resp.GetValuation().GetComplete() {
			t.Errorf("%s: %v", call, resp.GetValuation())
		}
	}
	snap, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil || snap.GetSnapshot().GetComplete() {
		t.Errorf("snapshot %v, %v", snap, err)
	}
}
