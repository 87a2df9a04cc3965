package suitetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// bucket is an hour of a portfolio as one of the answers tells it.
type bucket struct {
	total    string
	complete bool
}

// snapshotsOf returns the snapshots of a portfolio by hour, as ListSnapshots has them.
func snapshotsOf(ctx context.Context, t *testing.T, c *demo.Clients, id string) map[int64]bucket {
	t.Helper()
	found := map[int64]bucket{}
	for token := ""; ; {
		page, err := c.Portfolios.ListSnapshots(ctx,
			&portfoliov1.ListSnapshotsRequest{PortfolioId: id, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.GetSnapshots() {
			found[s.GetBucketTime().GetSeconds()] = bucket{s.GetTotal(), s.GetComplete()}
		}
		if token = page.GetNextPageToken(); token == "" {
			return found
		}
	}
}

// exportedPosition is a line of an export of positions.
type exportedPosition struct {
	HourTime time.Time `json:"hour_time"`
	TokenID  string    `json:"token_id"`
	Amount   string    `json:"amount"` // of whole tokens
	Verified bool      `json:"verified"`
	Value    string    `json:"value"`
}

// exported returns the positions of a portfolio's snapshots.
func exported(ctx context.Context, t *testing.T, c *demo.Clients, id string, from, until time.Time) (
	positions []exportedPosition) {
	t.Helper()
	stream, err := c.Portfolios.ExportSnapshots(ctx, &portfoliov1.ExportSnapshotsRequest{PortfolioId: id,
		Format:    portfoliov1.ExportFormat_EXPORT_FORMAT_JSON_LINES,
		Content:   portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS,
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Write(part.GetData())
	}
	for lines := json.NewDecoder(&file); lines.More(); {
		var p exportedPosition
		if err := lines.Decode(&p); err != nil {
			t.Fatal(err)
		}
		positions = append(positions, p)
	}
	return positions
}

// invariant checks that each hour of a portfolio has one value: the sum of its positions, the snapshot, the close of
// the timeline in every interval, the valuation as of it, and, with expected, what the chain and the prices say. It
// returns the totals by hour.
func invariant(ctx context.Context, t *testing.T, c *demo.Clients, id string, from, until time.Time,
	expected func(at time.Time) *big.Rat) map[int64]bucket {
	t.Helper()
	snapshots := snapshotsOf(ctx, t, c, id)
	sums := map[int64]*big.Rat{}
	for _, p := range exported(ctx, t, c, id, from, until) {
		at := p.HourTime.Unix()
		if sums[at] == nil {
			sums[at] = new(big.Rat)
		}
		if p.Verified && p.Value != "" {
			sums[at].Add(sums[at], rat(t, p.Value))
		}
	}
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		snap, ok := snapshots[at.Unix()]
		if !ok || !snap.complete {
			t.Errorf("%s: the snapshot is %v", at, snap)
			continue
		}
		total := rat(t, snap.total)
		if sum := sums[at.Unix()]; total.Cmp(orZero(sum)) != 0 {
			t.Errorf("%s: the total is %s, the sum of its positions %s", at, snap.total, orZero(sum).FloatString(8))
		}
		if want := expected(at); want != nil && total.Cmp(want) != 0 {
			t.Errorf("%s: the total is %s, by chain and prices %s", at, snap.total, want.FloatString(8))
		}
	}
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		resp, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{PortfolioId: id,
			AsOfTime: timestamppb.New(at)})
		if err != nil {
			t.Fatal(err)
		}
		sum := new(big.Rat)
		for _, p := range resp.GetValuation().GetPositions() {
			if p.GetVerified() && p.GetValue() != "" {
				sum.Add(sum, rat(t, p.GetValue()))
			}
		}
		total := resp.GetValuation().GetTotal()
		if sum.Cmp(rat(t, total)) != 0 || rat(t, total).Cmp(rat(t, snapshots[at.Unix()].total)) != 0 {
			t.Errorf("as of %s: the total is %s, the sum of its positions %s, the snapshot %s", at, total,
				sum.FloatString(8), snapshots[at.Unix()].total)
		}
	}
	for _, zone := range []string{"UTC", "Asia/Kathmandu", "America/St_Johns"} {
		for _, interval := range []portfoliov1.Interval{portfoliov1.Interval_INTERVAL_HOURLY,
			portfoliov1.Interval_INTERVAL_DAILY, portfoliov1.Interval_INTERVAL_WEEKLY,
			portfoliov1.Interval_INTERVAL_MONTHLY} {
			timeline(ctx, t, c, snapshots, &portfoliov1.GetTimelineRequest{PortfolioId: id, Interval: interval,
				TimeZone: zone, StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
		}
	}
	return snapshots
}

func orZero(r *big.Rat) *big.Rat {
	if r == nil {
		return new(big.Rat)
	}
	return r
}

// timeline checks that each point has the totals of the snapshots in it. The first and the last interval, which are
// whole, may have some outside the range.
func timeline(ctx context.Context, t *testing.T, c *demo.Clients, snapshots map[int64]bucket,
	req *portfoliov1.GetTimelineRequest) {
	t.Helper()
	resp, err := c.Portfolios.GetTimeline(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range resp.GetPoints() {
		if p.GetCarriedForward() {
			continue
		}
		var in []string
		for _, at := range slices.Sorted(maps.Keys(snapshots)) {
			if at >= p.GetStartTime().GetSeconds() && at < p.GetEndTime().GetSeconds() {
				if at >= req.GetStartTime().GetSeconds() && at < req.GetEndTime().GetSeconds() {
					seen++
				}
				in = append(in, snapshots[at].total)
			}
		}
		if len(in) == 0 {
			t.Errorf("%s in %s: a point of no snapshot, %v", req.GetInterval(), req.GetTimeZone(), p)
			continue
		}
		byValue := slices.SortedFunc(slices.Values(in), func(a, b string) int { return rat(t, a).Cmp(rat(t, b)) })
		want := fmt.Sprint(in[0], in[len(in)-1], byValue[0], byValue[len(in)-1], len(in), true)
		if got := fmt.Sprint(p.GetOpen(), p.GetClose(), p.GetMin(), p.GetMax(), p.GetSnapshotCount(),
			p.GetComplete()); got != want {
			t.Errorf("%s in %s: the point from %s has %s, its snapshots %s", req.GetInterval(), req.GetTimeZone(),
				p.GetStartTime().AsTime(), got, want)
		}
	}
	if hours := int(req.GetEndTime().AsTime().Sub(req.GetStartTime().AsTime()) / time.Hour); seen != hours {
		t.Errorf("%s in %s: the points have %d of %d snapshots", req.GetInterval(), req.GetTimeZone(), seen, hours)
	}
}

// For random portfolios of random wallets over a random stretch of the chain: every hour has one value, whichever
// answer tells it, also after a price of it was mended; and a price that is mended is in the snapshots of all who hold
// the token once the job has run, and in none before.
func TestEveryHourHasOneValueInEveryAnswer(t *testing.T) {
	t.Parallel()
	unlimited := []string{"PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000"}
	s := start(t, func(o *suite.Options) {
		o.History = 5 * 24 * time.Hour
		o.Extra = map[string][]string{
			"wallet": append(unlimited, "PURSER_PRICE_SOURCES=imported,llama"),
			// The job that follows prices runs when the test has it run.
			"portfolio": append(unlimited, "PURSER_RECOMPUTE_CRON=0 0 29 2 *"),
		}
	})
	c := dial(t, s.Endpoints)
	admin := signInAdmin(t, s, c)
	adoptPrices(t, s, admin) // those that change from now on
	var mended []time.Time   // of all rounds: prices are everybody's
	for round := range testkit.Size(2, 20) {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("round %d, seed %d", round, seed), func(t *testing.T) {
			mended = append(mended, oneValue(t, s, c, admin, mended, rand.New(rand.NewPCG(seed, 0))))
		})
	}
}

// oneValue is a round. It returns when the price was that it mended.
func oneValue(t *testing.T, s *suite.Suite, c *demo.Clients, admin context.Context, mendedBefore []time.Time,
	r *rand.Rand) time.Time {
	ctx, wallets := withHolders(t, s, c)
	plan := s.Chain.Plan()
	hours := 12 + r.IntN(48)
	from := plan.Start.Add(time.Duration(1+r.IntN(24)) * time.Hour)
	until := from.Add(time.Duration(hours) * time.Hour)
	ids := slices.Sorted(maps.Keys(wallets))
	r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	named, err := c.Portfolios.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "some",
		WalletIds: ids[:1+r.IntN(len(ids))], EffectiveTime: timestamppb.New(from)})
	if err != nil {
		t.Fatal(err)
	}
	portfolios := []string{"", named.GetPortfolio().GetId()}
	take := func(id string, all bool) {
		t.Helper()
		for next := timestamppb.New(from); next != nil; {
			resp, err := c.Portfolios.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: id,
				StartTime: next, EndTime: timestamppb.New(until), All: all})
			if err != nil {
				t.Fatal(err)
			}
			next = resp.GetProgress().GetNextStartTime()
		}
	}
	expected := func(id string) func(time.Time) *big.Rat {
		return func(at time.Time) *big.Rat {
			// A price stands for some hours, while it isn't stale.
			if id != "" || slices.ContainsFunc(mendedBefore, func(mended time.Time) bool {
				return !at.Before(mended) && at.Before(mended.Add(24*time.Hour))
			}) {
				return nil
			}
			return expectedTotal(t, s, at)
		}
	}
	before := map[string]map[int64]bucket{}
	for _, id := range portfolios {
		take(id, false)
		before[id] = invariant(ctx, t, c, id, from, until, expected(id))
	}

	// A price of a token that is held is mended: ten times what it was.
	at := from.Add(time.Duration(r.IntN(hours)) * time.Hour)
	held := slices.DeleteFunc(exported(ctx, t, c, "", at, at.Add(time.Hour)), func(p exportedPosition) bool {
		return !p.Verified || p.Value == "" || rat(t, p.Value).Sign() == 0
	})
	if len(held) == 0 {
		t.Fatalf("nothing is held at %s", at)
	}
	mended := held[r.IntN(len(held))]
	price := new(big.Rat).Quo(new(big.Rat).Mul(rat(t, mended.Value), big.NewRat(10, 1)), rat(t, mended.Amount))
	resp, err := c.Prices.ImportPrices(admin, &walletv1.ImportPricesRequest{RequestId: uuid.NewString(),
		Prices: []*walletv1.ImportedPrice{{TokenId: mended.TokenID, Price: price.FloatString(30),
			PriceTime: timestamppb.New(at)}}, Replace: true})
	if err != nil || resp.GetImportedCount() != 1 {
		t.Fatal(resp, err)
	}
	id := named.GetPortfolio().GetId()
	for _, id := range portfolios { // the control
		if !maps.Equal(snapshotsOf(ctx, t, c, id), before[id]) {
			t.Error("snapshots changed before the job has run")
		}
	}
	adoptPrices(t, s, admin)
	after := invariant(ctx, t, c, "", from, until, func(time.Time) *big.Rat { return nil })
	change := new(big.Rat).Sub(rat(t, after[at.Unix()].total), rat(t, before[""][at.Unix()].total))
	want := new(big.Rat).Mul(rat(t, mended.Value), big.NewRat(9, 1))
	if off := new(big.Rat).Sub(change, want); off.Abs(off).Cmp(big.NewRat(1, 1_000_000)) > 0 {
		t.Errorf("with the mended price the total changed by %s, want %s", change.FloatString(8), want.FloatString(8))
	}
	others := invariant(ctx, t, c, id, from, until, expected(id))
	// Taken again, they are as the job has left them.
	for id, found := range map[string]map[int64]bucket{"": after, id: others} {
		take(id, true)
		if again := snapshotsOf(ctx, t, c, id); !maps.Equal(again, found) {
			t.Errorf("taken again the snapshots are %v, and the job had left %v", again, found)
		}
	}
	return at
}

// adoptPrices runs portfolio's job twice: a run that is not of the first shard may be over before that one has found
// out which prices changed.
func adoptPrices(t *testing.T, s *suite.Suite, admin context.Context) {
	t.Helper()
	for range 2 {
		runJob(admin, t, s.Endpoints.Portfolio, "recompute_snapshots")
	}
}

// runJob triggers a job of the service at an address, and waits for the end of its runs.
func runJob(admin context.Context, t *testing.T, addr, job string) {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	jobs := jobsv1.NewJobServiceClient(conn)
	if _, err := jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: job}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: job})
		if err != nil {
			t.Fatal(err)
		}
		return len(runs.GetRuns()) > 0 && !slices.ContainsFunc(runs.GetRuns(), func(r *jobsv1.JobRun) bool {
			if r.GetError() != "" {
				t.Fatal(r)
			}
			return r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DUE ||
				r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_RUNNING
		})
	})
}
