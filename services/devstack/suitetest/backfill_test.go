package suitetest

import (
	"context"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/suite"
)

// backfill fills in a range as a client does.
func backfill(t *testing.T, ctx context.Context, c *demo.Clients, from, until time.Time) (stored, incomplete int32) {
	t.Helper()
	for next := timestamppb.New(from); next != nil; {
		resp, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: next, EndTime: timestamppb.New(until)})
		if err != nil {
			t.Fatal(err)
		}
		b := resp.GetBackfill()
		stored, incomplete, next = stored+b.GetStoredCount(), incomplete+b.GetIncompleteCount(), b.GetNextStartTime()
	}
	return stored, incomplete
}

// worth is what the chain's plan and the feed's prices come to, each token's
// value rounded half to even at eight decimals.
func worth(t *testing.T, s *suite.Suite, at time.Time) *big.Rat {
	t.Helper()
	assets, decimals := map[string]common.Address{"ETH": chain.Native()}, map[string]uint8{"ETH": 18}
	for _, token := range s.Chain.Tokens() {
		assets[token.Symbol], decimals[token.Symbol] = token.Address, token.Decimals
	}
	total := new(big.Int) // in units of 1e-8
	for symbol, asset := range assets {
		amount := new(big.Int)
		for _, h := range s.Chain.Holders() {
			amount.Add(amount, s.Chain.Plan().Balance(h, asset, at).ToBig())
		}
		price, ok := prices.PriceAt(symbol, at)
		if amount.Sign() == 0 || !ok {
			continue
		}
		value := new(big.Rat).Mul(new(big.Rat).SetInt(amount), rat(t, price))
		value.Mul(value, big.NewRat(100_000_000, 1))
		value.Quo(value, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals[symbol])), nil)))
		whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
		if c := rest.Lsh(rest, 1).Cmp(value.Denom()); c > 0 || c == 0 && whole.Bit(0) == 1 {
			whole.Add(whole, big.NewInt(1))
		}
		total.Add(total, whole)
	}
	return new(big.Rat).SetFrac(total, big.NewInt(100_000_000))
}

func TestEachHourOfABackfillIsWorthWhatChainAndFeedWereSeededWith(t *testing.T) {
	s := start(t)
	c := dial(t, s.Endpoints)
	ctx, _ := withHolders(t, s, c)
	const before, hours = 3, 52
	begin := s.Chain.Plan().Start
	from, until := begin.Add(-before*time.Hour), begin.Add((hours-before)*time.Hour)
	begun := time.Now()
	if stored, incomplete := backfill(t, ctx, c, from, until); stored != hours || incomplete != 0 {
		t.Fatalf("%d stored, %d of them incomplete", stored, incomplete)
	}
	testkit.Figure(t, "%d hours of 3 wallets backfilled in %s", hours, time.Since(begun).Round(10*time.Millisecond))
	list, err := c.Portfolios.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{})
	if err != nil || len(list.GetSnapshots()) != hours {
		t.Fatalf("%d snapshots, %v", len(list.GetSnapshots()), err)
	}
	slices.Reverse(list.GetSnapshots())
	for i, snap := range list.GetSnapshots() {
		at := from.Add(time.Duration(i) * time.Hour)
		if !snap.GetBucketTime().AsTime().Equal(at) || !snap.GetSnapshotTime().AsTime().Equal(at) || !snap.GetBackfilled() || !snap.GetComplete() {
			t.Fatalf("hour %s is %v", at, snap)
		}
		if want := worth(t, s, at); rat(t, snap.GetTotal()).Cmp(want) != 0 {
			t.Errorf("%s is worth %s, want %s", at, snap.GetTotal(), want.FloatString(8))
		}
		if held := at.After(begin); held != (rat(t, snap.GetTotal()).Sign() > 0) {
			t.Errorf("%s is worth %s, the chain began at %s", at, snap.GetTotal(), begin)
		}
	}
	points, err := c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
		Interval: portfoliov1.Interval_INTERVAL_HOURLY, StartTime: timestamppb.New(from), EndTime: timestamppb.New(until),
	})
	if err != nil || len(points.GetPoints()) != hours {
		t.Fatalf("%d points, %v", len(points.GetPoints()), err)
	}
	for i, p := range points.GetPoints() {
		if p.GetCarriedForward() || p.GetClose() != list.GetSnapshots()[i].GetTotal() {
			t.Errorf("point %v, snapshot %v", p, list.GetSnapshots()[i])
		}
	}
	asked := s.Prices.Requests()
	if stored, _ := backfill(t, ctx, c, from, until); stored != 0 || s.Prices.Requests() != asked {
		t.Errorf("again: %d stored, the feed was asked %d times", stored, s.Prices.Requests()-asked)
	}
	other, _ := signIn(t, c)
	if stored, _ := backfill(t, other, c, from, until); stored != 0 {
		t.Errorf("who has no wallets has %d snapshots", stored)
	}
}
