package suitetest

import (
	"context"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// Portfolio's job signs in at auth in its own name and reads everybody's
// holdings at wallet.
func TestEverybodysSnapshotIsTakenWithoutTheirAsking(t *testing.T) {
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"portfolio": {"PURSER_SNAPSHOT_CRON=@every 1s"}}
	})
	c := dial(t, s.Endpoints)
	alice, _ := signIn(t, c)
	bob, _ := signIn(t, c)
	addWallet(t, alice, c, account(s, s.Chain.Holders()[0]))
	addWallet(t, bob, c, account(s, s.Chain.Holders()[1]))
	nobody, _ := signIn(t, c) // has no wallets
	totals := map[string]bool{}
	for _, ctx := range []context.Context{nobody, alice, bob} {
		if _, err := c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ctx := range []context.Context{alice, bob} {
		testkit.Eventually(t, 30*time.Second, func() bool {
			resp, err := c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range resp.GetPoints() {
				totals[p.GetClose()] = true
			}
			return len(resp.GetPoints()) > 0
		})
	}
	if len(totals) != 2 {
		t.Errorf("the two have the values %v", totals)
	}
	resp, err := c.Portfolios.GetTimeline(nobody, &portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	if err != nil || len(resp.GetPoints()) != 0 {
		t.Errorf("who has no wallets has the history %v, %v", resp.GetPoints(), err)
	}
}
