package app_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
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

func startPair(t *testing.T, settings ...string) pair {
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
	s := start(t)
	logs := &journal{}
	return pair{a: s.replica(t, redis.URL(), logs, settings...), b: s.replica(t, redis.URL(), logs, settings...),
		redis: redis, logs: logs}
}

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

func (s service) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := s.db.SQL().ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotOfOneReplicaIsInTheTimelineOfTheOtherAtOnce(t *testing.T) {
	p := startPair(t)
	ctx, _ := p.a.user(t, "portfolio:read", "portfolio:write", "wallet:read")
	other, _ := p.a.user(t, "portfolio:read", "portfolio:write", "wallet:read")
	none, one, two := [2]string{}, [2]string{"1.50000000", "1.50000000"}, [2]string{"3.00000000", "3.00000000"}
	check := func(when string, want [2]string) {
		t.Helper()
		for name, s := range map[string]service{"the writer": p.a, "the other": p.b} {
			p.logs.atOnce(t, when+": "+name+" answers", fmt.Sprint(want),
				func() string { return fmt.Sprint(s.lastClose(ctx, t)) })
		}
		if got := p.b.lastClose(other, t); got != none {
			t.Errorf("%s: another user is answered %v", when, got)
		}
	}
	check("before the first", none)
	p.a.snapshot(ctx, t, "1")
	check("after the first", one)
	p.a.exec(t, "UPDATE snapshots SET complete = false") // so that a complete one replaces it
	p.a.snapshot(ctx, t, "2")
	check("after a better one", two)
}

func TestASnapshotWhileRedisIsAwayIsSeenByTheOtherReplicaOnceItIsBack(t *testing.T) {
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
			ctx, _ := p.a.user(t, "portfolio:read", "portfolio:write", "wallet:read")
			old, fresh := [2]string{}, [2]string{"1.50000000", "1.50000000"}
			for range 10 { // so that it is cached, also when Redis is slow at times
				if got := p.b.lastClose(ctx, t); got != old {
					t.Fatal(got)
				}
			}
			p.redis.Kill()
			p.a.snapshot(ctx, t, "1")
			if got := p.b.lastClose(ctx, t); got != fresh {
				t.Errorf("while Redis is away: %v", got)
			}
			if !tc.noted {
				p.a.exec(t, "DELETE FROM cache_invalidations")
			}
			if err := p.redis.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tc.noted {
				testkit.Eventually(t, 10*time.Second, func() bool { return p.b.lastClose(ctx, t) == old })
				return
			}
			begin := time.Now()
			testkit.Eventually(t, 10*time.Second, func() bool {
				var left int
				err := p.a.db.SQL().QueryRowContext(t.Context(),
					"SELECT count(*) FROM cache_invalidations").Scan(&left)
				return err == nil && left == 0
			})
			if got := p.b.lastClose(ctx, t); got != fresh {
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

func TestAValuationOfAMomentAgoIsAnsweredAndNeverStored(t *testing.T) {
	p := startPair(t, "PURSER_CACHE_VALUATION_TTL=1m")
	user := uuid.New()
	ctx, _ := p.a.as(t, user, "portfolio:read", "portfolio:write", "wallet:read")
	prices := 0
	// Again until neither the first nor the second answer went round a busy
	// Redis.
	testkit.Eventually(t, 30*time.Second, func() bool {
		prices++
		before := p.a.total(ctx, t)
		p.a.wallet.setPrice(strconv.Itoa(10 + prices))
		return p.b.total(ctx, t) == before
	})
	p.a.wallet.setPrice("4")
	if snap, err := p.b.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil ||
		snap.GetSnapshot().GetTotal() != "6.00000000" {
		t.Errorf("the snapshot %v, %v is not of now", snap, err)
	}
	// Another token of the same user that may not read wallets: the wallet
	// service is asked, which is where that is refused.
	barred, token := p.a.as(t, user, "portfolio:read")
	if got := p.b.total(barred, t); got != "6.00000000" || p.a.wallet.lastToken() != "Bearer "+token {
		t.Errorf("a token that may not read wallets was answered %s from the cache", got)
	}
	other, _ := p.a.user(t, "portfolio:read", "wallet:read")
	if got := p.b.total(other, t); got != "6.00000000" {
		t.Errorf("another user is answered %s", got)
	}
	mine, err := p.b.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.b.GetValuation(other, &portfoliov1.GetValuationRequest{PortfolioId: mine.GetPortfolio().GetId()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
}

func (w *wallet) lastToken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens[len(w.tokens)-1]
}

func TestWithoutATTLEveryValuationIsWorkedOutAnew(t *testing.T) {
	p := startPair(t, "PURSER_CACHE_VALUATION_TTL=0s")
	ctx, _ := p.a.user(t, "portfolio:read", "wallet:read")
	for _, step := range []struct{ price, want string }{{"2", "3.00000000"}, {"4", "6.00000000"}, {"none", "0"},
		{"6", "9.00000000"}} {
		p.a.wallet.setPrice(step.price)
		for name, s := range map[string]service{"the one": p.a, "the other": p.b} {
			if got := s.total(ctx, t); got != step.want {
				t.Errorf("at %s %s answers %s", step.price, name, got)
			}
		}
	}
}
