package suitetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// pastTotals are the totals of the snapshots of full hours of a portfolio, oldest first, with a
// "?" after those that aren't complete.
func pastTotals(ctx context.Context, t *testing.T, c *demo.Clients, portfolioID string, until time.Time) string {
	t.Helper()
	list, err := c.Portfolios.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PortfolioId: portfolioID})
	if err != nil {
		t.Fatal(err)
	}
	var totals []string
	for i := range list.GetSnapshots() {
		snap := list.GetSnapshots()[len(list.GetSnapshots())-1-i]
		if !snap.GetBucketTime().AsTime().Before(until) {
			continue
		}
		text := snap.GetTotal()
		if !snap.GetComplete() {
			text += "?"
		}
		totals = append(totals, text)
	}
	return strings.Join(totals, " ")
}

// Nobody asks for anything: portfolio learns of each wallet that comes and goes from wallet's
// feed, and its job takes again what is out of date, as the service's own account.
func TestHistoryFollowsTheWalletsByItself(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"portfolio": {"PURSER_SNAPSHOT_CRON=0 0 29 2 *",
			"PURSER_RECOMPUTE_CRON=@every 1s", "PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000"}}
	})
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	until := time.Now().Add(-15 * time.Minute).UTC().Truncate(time.Hour)
	from := until.Add(-4 * time.Hour)
	first := addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	vault, err := c.Portfolios.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Vault",
		WalletIds: []string{first.GetId()}, EffectiveTime: timestamppb.New(from)})
	if err != nil {
		t.Fatal(err)
	}
	named := vault.GetPortfolio().GetId()
	for _, id := range []string{"", named} {
		resp, err := c.Portfolios.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: id,
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
		if err != nil || resp.GetProgress().GetStoredCount() != 4 {
			t.Fatal(resp, err)
		}
	}
	alone := pastTotals(ctx, t, c, "", until)
	if got := pastTotals(ctx, t, c, named, until); got != alone || strings.Contains(got, "?") {
		t.Fatalf("the portfolio of the one wallet has %s, the default one %s", got, alone)
	}
	eventually := func(what, id string, is func(string) bool) {
		t.Helper()
		got := ""
		defer func() {
			if t.Failed() {
				t.Errorf("%s: %s", what, got)
			}
		}()
		testkit.Eventually(t, time.Minute, func() bool {
			got = pastTotals(ctx, t, c, id, until)
			return !strings.Contains(got, "?") && is(got)
		})
	}
	second := addWallet(t, ctx, c, account(s, s.Chain.Holders()[1]))
	eventually("with a second wallet", "", func(got string) bool { return got != alone })
	if got := pastTotals(ctx, t, c, named, until); got != alone {
		t.Errorf("a wallet that isn't its own changed it to %s", got)
	}
	if _, err := c.Wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: second.GetId()}); err != nil {
		t.Fatal(err)
	}
	eventually("without it", "", func(got string) bool { return got == alone })
	if _, err := c.Wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: first.GetId()}); err != nil {
		t.Fatal(err)
	}
	eventually("without any", "", func(got string) bool {
		return strings.ReplaceAll(got, ".00000000", "") == "0 0 0 0"
	})
	// The past of a named portfolio stays, and the wallet is in it no more.
	testkit.Eventually(t, time.Minute, func() bool {
		p, err := c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: named})
		if err != nil {
			t.Fatal(err)
		}
		return len(p.GetPortfolio().GetWalletIds()) == 0
	})
	if got := pastTotals(ctx, t, c, named, until); got != alone {
		t.Errorf("the past of a portfolio whose wallet left became %s", got)
	}
}
