package alert_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// ruleStore is a store of rules whose owners are due when due says so.
type ruleStore struct {
	alert.EvaluationStore
	due     func() []uuid.UUID
	enabled func(ctx context.Context, owner uuid.UUID) ([]alert.Rule, error)

	mu     sync.Mutex
	stored []alert.Outcome
}

func (l *ruleStore) Claim(_ context.Context, _, until time.Time, n int, without []uuid.UUID) (due []alert.DueOwner,
	_ error) {
	for _, owner := range l.due() {
		if !slices.Contains(without, owner) && len(due) < n {
			due = append(due, alert.DueOwner{Owner: owner, Until: until})
		}
	}
	return due, nil
}

func (l *ruleStore) Finish(context.Context, alert.DueOwner, time.Time) error { return nil }

func (l *ruleStore) Enabled(ctx context.Context, owner uuid.UUID) ([]alert.Rule, error) {
	return l.enabled(ctx, owner)
}

func (l *ruleStore) Store(ctx context.Context, _ uuid.UUID, outcomes []alert.Outcome) ([]alert.Alert, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored = append(l.stored, outcomes...)
	return nil, nil
}

// hanging never says what a portfolio is, and prices are known at once.
type hanging struct{}

func (hanging) Find(ctx context.Context, _, _ uuid.UUID) (portfolio.Portfolio, error) {
	<-ctx.Done()
	return portfolio.Portfolio{}, ctx.Err()
}

func (hanging) Value(context.Context, portfolio.Portfolio) (valuation.Valuation, error) {
	return valuation.Valuation{}, errors.New("not found")
}

func (hanging) Now(_ context.Context, ids []string) (map[string]valuation.Price, error) {
	out := map[string]valuation.Price{}
	for _, id := range ids {
		out[id] = valuation.Price{Amount: "2", Source: "test"}
	}
	return out, nil
}

func evaluator(l *ruleStore) *alert.Evaluator {
	from := alert.Sources{Values: hanging{}, Prices: hanging{},
		AsSelf: func(ctx context.Context) (context.Context, error) { return ctx, nil }}
	return alert.NewEvaluator(l, from, 30*time.Second, slog.New(slog.DiscardHandler), time.Now, func() {})
}

// An owner whose rules are due again while they are evaluated, as when they change one all the time, has one
// evaluation at a time: whoever else is due doesn't wait for a place.
func TestAnOwnerWhoIsAlwaysDueTakesOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, other, begun := uuid.New(), uuid.New(), time.Now()
		seen := make(chan time.Duration, 1)
		running, maxRunning := 0, 0
		var mu sync.Mutex
		l := &ruleStore{due: func() []uuid.UUID {
			if at := time.Since(begun); at >= 5*time.Second && at < 6*time.Second {
				return []uuid.UUID{busy, other}
			}
			return []uuid.UUID{busy}
		}}
		l.enabled = func(ctx context.Context, owner uuid.UUID) ([]alert.Rule, error) {
			if owner == other {
				seen <- time.Since(begun)
				return nil, nil
			}
			mu.Lock()
			running++
			maxRunning = max(maxRunning, running)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			running--
			mu.Unlock()
			return nil, ctx.Err()
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- evaluator(l).Run(ctx) }()
		select {
		case at := <-seen:
			if at > 6*time.Second {
				t.Errorf("who was due after 5 s was looked at after %s", at)
			}
		case <-time.After(20 * time.Second):
			t.Error("who was due was not looked at")
		}
		stop()
		if err := <-ended; err != nil || maxRunning != 1 {
			t.Errorf("%v, and %d evaluations of an owner at a time", err, maxRunning)
		}
	})
}

// What hangs until the time of an evaluation has passed loses nothing of what was seen before.
func TestWhatWasSeenIsStoredThoughAnotherReadTakesAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero := new(apd.Decimal)
		rules := []alert.Rule{
			{ID: uuid.New(), Kind: alert.PriceAbove, Token: "a:1/b:2", Limit: apd.New(1, 0), Hysteresis: zero},
			{ID: uuid.New(), Kind: alert.WalletAge, Window: time.Hour, Portfolio: uuid.New(), Hysteresis: zero},
		}
		l := &ruleStore{enabled: func(context.Context, uuid.UUID) ([]alert.Rule, error) { return rules, nil }}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := evaluator(l).Evaluate(ctx, uuid.New()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if len(l.stored) != 1 || !l.stored[0].Fires || l.stored[0].Rule.ID != rules[0].ID {
			t.Errorf("stored %v", l.stored)
		}
	})
}
