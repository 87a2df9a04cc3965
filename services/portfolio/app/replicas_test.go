package app_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// lastClose is the newest value of the daily and of the hourly timeline.
func (s service) lastClose(ctx context.Context, t *testing.T) (closes [2]string) {
	t.Helper()
	for i, interval := range []portfoliov1.Interval{portfoliov1.Interval_INTERVAL_DAILY,
		portfoliov1.Interval_INTERVAL_HOURLY} {
		resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Interval: interval})
		if err != nil {
			t.Fatal(err)
		}
		if points := resp.GetPoints(); len(points) > 0 {
			closes[i] = points[len(points)-1].GetClose()
		}
	}
	return closes
}

// snapshot takes one of the token at this price.
func (s service) snapshot(ctx context.Context, t *testing.T, price string) {
	t.Helper()
	s.wallet.setPrice(price)
	if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotOfOneReplicaIsInTheTimelineOfTheOtherAtOnce(t *testing.T) {
	r := startReplicas(t)
	ctx, _ := r.A.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	other, _ := r.A.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	none, one, two := [2]string{}, [2]string{"1.50000000", "1.50000000"}, [2]string{"3.00000000", "3.00000000"}
	check := func(when string, want [2]string) {
		t.Helper()
		for name, s := range map[string]service{"the writer": r.A, "the other": r.B} {
			r.WantFresh(t, when+": "+name+" answers", fmt.Sprint(want),
				func() string { return fmt.Sprint(s.lastClose(ctx, t)) })
		}
		if got := r.B.lastClose(other, t); got != none {
			t.Errorf("%s: another user is answered %v", when, got)
		}
	}
	check("before the first", none)
	r.A.snapshot(ctx, t, "1")
	check("after the first", one)
	// So that a complete one with a fresh price replaces it.
	r.A.exec(t, "UPDATE snapshots SET complete = false, stale_price_count = 1")
	r.A.exec(t, "UPDATE hour_prices SET stale = true")
	r.A.snapshot(ctx, t, "2")
	check("after a better one", two)
}

func TestASnapshotWhileRedisIsUnavailableIsSeenByTheOtherReplicaOnceItIsBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		outbox bool
	}{
		{"by the invalidation in the outbox", true},
		{"and never without the invalidation, since the old answer is still cached", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := startReplicas(t)
			ctx, _ := r.A.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
			old, fresh := [2]string{}, [2]string{"1.50000000", "1.50000000"}
			readOld := func() {
				if got := r.B.lastClose(ctx, t); got != old {
					t.Fatal(got)
				}
			}
			readOld() // makes the portfolio, which is recorded in the outbox
			servicetest.WaitForOutbox(t, r.A.db)
			servicetest.ReadUntilCached(t, r.Redis, readOld, map[string]int{"generation": 1, "timeline": 2})
			r.Redis.Kill()
			r.A.snapshot(ctx, t, "1")
			if got := r.B.lastClose(ctx, t); got != fresh {
				t.Errorf("while Redis is unavailable: %v", got)
			}
			if !tc.outbox {
				r.A.exec(t, "DELETE FROM cache_invalidations")
			}
			if err := r.Redis.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tc.outbox {
				testkit.Eventually(t, 10*time.Second, func() bool { return r.B.lastClose(ctx, t) == old })
				return
			}
			begin := time.Now()
			servicetest.WaitForOutbox(t, r.A.db)
			if got := r.B.lastClose(ctx, t); got != fresh {
				t.Errorf("after the sweep: %v", got)
			}
			testkit.Figure(t, "the outbox was swept %s after the return of Redis",
				time.Since(begin).Round(time.Millisecond))
		})
	}
}

func (s service) total(ctx context.Context, t *testing.T) string {
	t.Helper()
	resp, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetValuation().GetTotal()
}

func TestACachedValuationIsReturnedAndNeverStored(t *testing.T) {
	r := startReplicas(t, "PURSER_CACHE_VALUATION_TTL=1m")
	user := uuid.New()
	ctx, _ := r.A.as(t, user, "portfolio:read", "portfolio:write", "wallet:read")
	prices := 0
	// Repeated until Redis, which may be too slow on a busy machine, was used by both
	// calls.
	testkit.Eventually(t, 30*time.Second, func() bool {
		prices++
		before := r.A.total(ctx, t)
		r.A.wallet.setPrice(strconv.Itoa(10 + prices))
		return r.B.total(ctx, t) == before
	})
	r.A.wallet.setPrice("4")
	if snap, err := r.B.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil ||
		snap.GetSnapshot().GetTotal() != "6.00000000" {
		t.Errorf("the snapshot %v, %v is not of now", snap, err)
	}
	// Another token of the same user that may not read wallets: the wallet
	// service is asked, which is where that is refused.
	barred, token := r.A.as(t, user, "portfolio:read")
	if got := r.B.total(barred, t); got != "6.00000000" || r.A.wallet.lastToken() != token {
		t.Errorf("a token that may not read wallets was answered %s from the cache", got)
	}
	other, _ := r.A.newUser(t, "portfolio:read", "wallet:read")
	if got := r.B.total(other, t); got != "6.00000000" {
		t.Errorf("another user is answered %s", got)
	}
	mine, err := r.B.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.B.GetValuation(other, &portfoliov1.GetValuationRequest{PortfolioId: mine.GetPortfolio().GetId()})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
}

func TestWithoutATTLEveryValuationIsComputedAnew(t *testing.T) {
	r := startReplicas(t, "PURSER_CACHE_VALUATION_TTL=0s")
	ctx, _ := r.A.newUser(t, "portfolio:read", "wallet:read")
	for _, step := range []struct{ price, want string }{{"2", "3.00000000"}, {"4", "6.00000000"}, {"none", "0"},
		{"6", "9.00000000"}} {
		r.A.wallet.setPrice(step.price)
		for name, s := range map[string]service{"the one": r.A, "the other": r.B} {
			if got := s.total(ctx, t); got != step.want {
				t.Errorf("at %s %s answers %s", step.price, name, got)
			}
		}
	}
}
