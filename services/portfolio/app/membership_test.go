package app_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// chart is the timeline by the hour from a time on, as "total" or "total?" for what isn't
// complete, then "!" for what is out of date.
func (s service) chart(ctx context.Context, t *testing.T, portfolioID string, from, until time.Time) string {
	t.Helper()
	resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{PortfolioId: portfolioID,
		Interval: portfoliov1.Interval_INTERVAL_HOURLY, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, p := range resp.GetPoints() {
		text := whole(p.GetClose())
		if !p.GetComplete() {
			text += "?"
		}
		if p.GetOutOfDateCount() > 0 {
			text += "!"
		}
		if p.GetCarriedForward() {
			text += "~"
		}
		points = append(points, text)
	}
	return strings.Join(points, " ")
}

// whole returns a decimal without zeros after the point.
func whole(decimal string) string {
	if strings.Contains(decimal, ".") {
		decimal = strings.TrimRight(strings.TrimRight(decimal, "0"), ".")
	}
	return decimal
}

func (s service) recompute(ctx context.Context, t *testing.T, portfolioID string, from, until time.Time,
	all bool) (stored int32) {
	t.Helper()
	for next := timestamppb.New(from); next != nil; {
		resp, err := s.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: portfolioID,
			StartTime: next, EndTime: timestamppb.New(until), All: all})
		if err != nil {
			t.Fatal(err)
		}
		stored += resp.GetProgress().GetStoredCount()
		next = resp.GetProgress().GetNextStartTime()
	}
	return stored
}

// A second wallet made the chart jump, with every point complete, and a backfill of the same
// range stored nothing.
func TestASecondWalletIsInThePastOnceThatIsRecomputed(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(4)
	first, second := ownedWallet{id: uuid.NewString(), amount: "10"}, ownedWallet{id: uuid.NewString(), amount: "1000"}
	s.wallet.setOwned(first)
	if stored, _, err := s.backfill(ctx, from, until); err != nil || stored != 4 {
		t.Fatal(stored, err)
	}
	if got := s.chart(ctx, t, "", from, until); got != "20 20 20 20" {
		t.Fatal(got)
	}
	s.wallet.setOwned(first, second)
	if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := s.chart(ctx, t, "", from, until); got != "20?! 20?! 20?! 20?!" {
		t.Errorf("after a second wallet the chart is %s", got)
	}
	list, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{})
	if err != nil || len(list.GetSnapshots()) != 5 {
		t.Fatal(list, err)
	}
	for i, snap := range list.GetSnapshots() {
		if old := i > 0; snap.GetOutOfDate() != old || snap.GetComplete() == old {
			t.Errorf("snapshot %d is %v", i, snap)
		}
	}
	perf, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from)})
	if err != nil || perf.GetPerformance().GetOutOfDateCount() == 0 ||
		!strings.Contains(fmt.Sprint(perf.GetPerformance().GetNotes()), "out of date") {
		t.Errorf("%v, %v", perf, err)
	}
	v, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: timestamppb.New(from)})
	if err != nil || v.GetValuation().GetComplete() ||
		!strings.Contains(fmt.Sprint(v.GetValuation().GetIncompleteReasons()), "wallets of the portfolio changed") {
		t.Errorf("%v, %v", v, err)
	}
	// A backfill of the same range stores it.
	if stored, _, err := s.backfill(ctx, from, until); err != nil || stored != 4 {
		t.Errorf("%d stored, %v", stored, err)
	}
	if got := s.chart(ctx, t, "", from, until.Add(time.Minute)); got != "2020 2020 2020 2020 2020" {
		t.Errorf("recomputed the chart is %s", got)
	}
	// Nothing was earned, and nothing came in.
	perf, err = s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from)})
	if p := perf.GetPerformance(); err != nil || p.GetOutOfDateCount() != 0 || whole(p.GetInflow()) != "0" ||
		math.Abs(p.GetTimeWeighted().GetPeriod().GetValue()) > 1e-12 {
		t.Errorf("%v, %v", perf, err)
	}
	if stored := s.recompute(ctx, t, "", from, until, false); stored != 0 {
		t.Errorf("%d are stored once more", stored)
	}
	if stored := s.recompute(ctx, t, "", from, until, true); stored != 4 {
		t.Errorf("%d of all are stored once more", stored)
	}
}

// The total of the hour kept a wallet that was deleted, and no snapshot of the hour replaced it.
func TestADeletedWalletLeavesTheHoursTotal(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	first, second := ownedWallet{id: uuid.NewString(), amount: "10"}, ownedWallet{id: uuid.NewString(), amount: "1000"}
	s.wallet.setOwned(first, second)
	for _, step := range []struct {
		own   []ownedWallet
		total string
	}{{[]ownedWallet{first, second}, "2020"}, {[]ownedWallet{first}, "20"}, {nil, "0"},
		{[]ownedWallet{second}, "2000"}} {
		s.wallet.setOwned(step.own...)
		resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
		if snap := resp.GetSnapshot(); err != nil || whole(snap.GetTotal()) != step.total || !snap.GetComplete() ||
			!resp.GetStored() {
			t.Errorf("with %d wallets: %v, %v", len(step.own), resp, err)
		}
	}
}

// Of an owner whose last wallet was deleted nothing is left in the chart.
func TestThePastOfThelastWalletGoesWithIt(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(3)
	s.wallet.setOwned(ownedWallet{id: uuid.NewString(), amount: "10"})
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	s.wallet.setOwned()
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	if got := s.chart(ctx, t, "", from, until); got != "0 0 0" {
		t.Errorf("the chart is %s", got)
	}
}

// One wallet whose chain has no node makes hours incomplete, and doesn't keep those of the
// others from being stored.
func TestAWalletThatCannotBeReadSpoilsOnlyItsOwnPortfolio(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(3)
	good, unread := ownedWallet{id: uuid.NewString(), amount: "10"}, ownedWallet{id: uuid.NewString(), unread: true}
	s.wallet.setOwned(good, unread)
	ids := map[string]string{}
	for name, wallets := range map[string][]string{"good": {good.id}, "both": {good.id, unread.id},
		"none": {unread.id}} {
		ids[name] = s.create(ctx, t, name, from, wallets...).GetId()
		s.recomputeAny(ctx, ids[name], from, until)
	}
	if stored, incomplete, err := s.backfill(ctx, from, until); err != nil || stored != 3 || incomplete != 3 {
		t.Error(stored, incomplete, err)
	}
	for name, want := range map[string]string{"good": "20 20 20", "both": "20? 20? 20?", "none": ""} {
		if got := s.chart(ctx, t, ids[name], from, until); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if got := s.chart(ctx, t, "", from, until); got != "20? 20? 20?" {
		t.Error(got)
	}
	// Hours in which the others hold nothing don't end the backfill.
	s.wallet.setOwned(ownedWallet{id: good.id, amount: "0"}, unread)
	other, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	resp, err := s.TakeSnapshot(other, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	if b := resp.GetBackfill(); err != nil || b.GetSkippedCount() != 3 || b.GetRemainingCount() != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

// create makes a portfolio.
func (s service) create(ctx context.Context, t *testing.T, name string, from time.Time,
	wallets ...string) *portfoliov1.Portfolio {
	t.Helper()
	p, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: name, WalletIds: wallets,
		EffectiveTime: timestamppb.New(from)})
	if err != nil {
		t.Fatal(err)
	}
	return p.GetPortfolio()
}

// recomputeAny recomputes a range once, whatever comes of it.
func (s service) recomputeAny(ctx context.Context, id string, from, until time.Time) {
	_, _ = s.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: id,
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
}
