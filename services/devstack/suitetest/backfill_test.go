package suitetest

import (
	"context"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/suite"
)

// backfill backfills a range as a client does.
func backfill(t *testing.T, ctx context.Context, c *demo.Clients, from, until time.Time) (stored, incomplete int32) {
	t.Helper()
	for next := timestamppb.New(from); next != nil; {
		resp, err := c.Portfolios.TakeSnapshot(ctx,
			&portfoliov1.TakeSnapshotRequest{StartTime: next, EndTime: timestamppb.New(until)})
		if err != nil {
			t.Fatal(err)
		}
		b := resp.GetBackfill()
		stored, incomplete, next = stored+b.GetStoredCount(), incomplete+b.GetIncompleteCount(), b.GetNextStartTime()
	}
	return stored, incomplete
}

// expectedTotal computes the holders' value from the chain's plan and the feed's prices. Each token's value is
// rounded half to even at eight decimals.
func expectedTotal(t *testing.T, s *suite.Suite, at time.Time) *big.Rat {
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
		value.Quo(value, new(big.Rat).SetInt(
			new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals[symbol])), nil)))
		whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
		if c := rest.Lsh(rest, 1).Cmp(value.Denom()); c > 0 || c == 0 && whole.Bit(0) == 1 {
			whole.Add(whole, big.NewInt(1))
		}
		total.Add(total, whole)
	}
	return new(big.Rat).SetFrac(total, big.NewInt(100_000_000))
}

func TestEachBackfilledHourMatchesChainAndPriceFeed(t *testing.T) {
	s := shared(t)
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
		if !snap.GetBucketTime().AsTime().Equal(at) || !snap.GetSnapshotTime().AsTime().Equal(at) ||
			!snap.GetBackfilled() || !snap.GetComplete() {
			t.Fatalf("hour %s is %v", at, snap)
		}
		if want := expectedTotal(t, s, at); rat(t, snap.GetTotal()).Cmp(want) != 0 {
			t.Errorf("%s is worth %s, want %s", at, snap.GetTotal(), want.FloatString(8))
		}
		if held := at.After(begin); held != (rat(t, snap.GetTotal()).Sign() > 0) {
			t.Errorf("%s is worth %s, the chain began at %s", at, snap.GetTotal(), begin)
		}
	}
	points, err := c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
		Interval: portfoliov1.Interval_INTERVAL_HOURLY, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until),
	})
	if err != nil || len(points.GetPoints()) != hours {
		t.Fatalf("%d points, %v", len(points.GetPoints()), err)
	}
	for i, p := range points.GetPoints() {
		if p.GetCarriedForward() || p.GetClose() != list.GetSnapshots()[i].GetTotal() {
			t.Errorf("point %v, snapshot %v", p, list.GetSnapshots()[i])
		}
	}
	requests := s.Prices.ChartRequests()
	if stored, _ := backfill(t, ctx, c, from, until); stored != 0 || s.Prices.ChartRequests() != requests {
		t.Errorf("repeated: %d stored, %d requests to the feed", stored, s.Prices.ChartRequests()-requests)
	}
	other, _ := signIn(t, c)
	if stored, _ := backfill(t, other, c, from, until); stored != 0 {
		t.Errorf("a user without wallets has %d snapshots", stored)
	}
}

// stored returns a user's snapshots with their position counts and the positions stored.
func stored(t *testing.T, ctx context.Context, c *demo.Clients, s *suite.Suite) (lines []string) {
	t.Helper()
	p, err := c.Portfolios.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_portfolio"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s %s %s %s %s', bucket, snapshot_time, total, complete, position_count) || coalesce((
		  SELECT string_agg(format(' %s %s %s', token_id, amount, value), ',' ORDER BY token_id)
		  FROM snapshot_positions p
		  WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket), '')
		FROM snapshots s WHERE portfolio_id = $1 ORDER BY bucket`, p.GetPortfolio().GetId())
	if err != nil {
		t.Fatal(err)
	}
	if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return lines
}

// The service is killed at random moments of a backfill.
func TestABackfillInterruptedByKillsGivesTheSameSnapshots(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	undisturbed, _ := withHolders(t, s, c)
	ctx, _ := withHolders(t, s, c)
	const requestRange, hours, kills = 3 * time.Hour, 48, 6
	from := s.Chain.Plan().Start
	until := from.Add(hours * time.Hour)
	backfill(t, undisturbed, c, from, until)
	environ := slices.Concat(s.PortfolioEnviron(s.Endpoints), []string{"PURSER_GRPC_ADDR=127.0.0.1:0"})
	next, failed := from, 0
	for round := 0; next.Before(until); round++ {
		p := launch(t, filepath.Join(builtPrograms(t), "portfolio"), environ)
		e := s.Endpoints
		e.Portfolio = p.Addrs["grpc"]
		own := dial(t, e)
		if round < kills {
			late := time.AfterFunc(rand.N(150*time.Millisecond), func() { _ = p.Signal(syscall.SIGKILL) })
			defer late.Stop()
		}
		for next.Before(until) {
			resp, err := own.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{
				StartTime: timestamppb.New(next), EndTime: timestamppb.New(next.Add(requestRange)),
			})
			if err != nil {
				failed++
				break
			}
			if next = next.Add(requestRange); resp.GetBackfill().GetNextStartTime() != nil {
				next = resp.GetBackfill().GetNextStartTime().AsTime()
			}
		}
		_ = p.end(t, syscall.SIGKILL)
	}
	if failed == 0 {
		t.Error("no call was interrupted: this proves nothing")
	}
	want := stored(t, undisturbed, c, s)
	if got := stored(t, ctx, c, s); len(want) != hours || !slices.Equal(got, want) {
		t.Errorf("%d hours, undisturbed %d:\n%v\n%v", len(got), len(want), got, want)
	}
	testkit.Figure(t, "%d calls were interrupted by a SIGKILL", failed)
}
