package snapshot_test

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// fakePortfolios are the portfolios of all users, one each with the user's id, what their
// wallets hold, and how often each was stored.
type fakePortfolios struct {
	snapshot.Store
	ids    []uuid.UUID
	held   map[uuid.UUID]snapshot.OwnerHoldings
	failAt uuid.UUID // the stream fails at this owner
	stored map[uuid.UUID]int
	token  error // of asThisService

	mu    sync.Mutex
	saves []int // how many portfolios each call stored
	zeros int   // how many values of 0 were stored
}

var errUnavailable = errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")

func newPortfolios(n int) *fakePortfolios {
	w := &fakePortfolios{held: map[uuid.UUID]snapshot.OwnerHoldings{}, stored: map[uuid.UUID]int{}}
	for range n {
		id := uuid.New()
		w.ids = append(w.ids, id)
		w.held[id] = snapshot.OwnerHoldings{Owner: id, Wallets: []valuation.Wallet{{Synced: true}},
			Holdings: []valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(1),
				Price: valuation.Price{Amount: "5"}}}}
	}
	return w
}

func (w *fakePortfolios) ReadShard(_ context.Context, shard, shards int,
	visit func(snapshot.OwnerHoldings) error) error {
	for i, id := range w.ids {
		if id == w.failAt {
			return errUnavailable
		}
		if i%shards == shard {
			if err := visit(w.held[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *fakePortfolios) DueForSnapshot(_ context.Context, _ time.Time,
	owners []uuid.UUID) (due []portfolio.Member, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range owners {
		if w.stored[id] == 0 {
			due = append(due, portfolio.Member{Portfolio: portfolio.Portfolio{ID: id, Owner: id},
				Membership: portfolio.Membership{Digest: portfolio.Digest(w.held[id].Wallets)}})
		}
	}
	return due, nil
}

func (w *fakePortfolios) AdoptPrices(context.Context, []valuation.Assets) error { return nil }
func (w *fakePortfolios) MendPrices(context.Context, []valuation.Assets) error  { return nil }

func (w *fakePortfolios) SaveHour(_ context.Context, _ time.Time, values []snapshot.Valued) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range values {
		if w.stored[v.Portfolio.ID]++; v.Valuation.Total.IsZero() {
			w.zeros++
		}
	}
	w.saves = append(w.saves, len(values))
	return len(values), nil
}

func at() time.Time { return time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC) }

func (w *fakePortfolios) run(t *testing.T) error {
	t.Helper()
	as := func(ctx context.Context) (context.Context, error) { return ctx, w.token }
	return snapshot.NewHourlyJob(w, fakeHoldings{}, w, w, as, slog.New(slog.DiscardHandler), at).Run(t.Context(), 0, 1)
}

func TestTheHourlyJobTakesASnapshotOfEveryPortfolioOnce(t *testing.T) {
	w := newPortfolios(450)
	if err := w.run(t); err != nil {
		t.Fatal(err)
	}
	if err := w.run(t); err != nil { // finds nothing due
		t.Fatal(err)
	}
	for _, id := range w.ids {
		if w.stored[id] != 1 {
			t.Fatalf("a portfolio was stored %d times", w.stored[id])
		}
	}
	if slices.Sort(w.saves); !slices.Equal(w.saves, []int{50, 200, 200}) { // in any order
		t.Errorf("stored in batches of %v", w.saves)
	}
}

func TestTheHourlyJobContinuesWithTheOtherPortfoliosAfterAFailure(t *testing.T) {
	w := newPortfolios(10)
	w.failAt = w.ids[6]
	if err := w.run(t); !errors.Is(err, errUnavailable) || len(w.stored) != 6 {
		t.Fatalf("%d were stored, %v", len(w.stored), err)
	}
	w.failAt = uuid.Nil
	tooMany := w.held[w.ids[6]]
	tooMany.TooMany = true
	w.held[w.ids[6]] = tooMany
	if err := w.run(t); err != nil || len(w.stored) != 9 {
		t.Errorf("%d were stored then, %v", len(w.stored), err)
	}
}

// Auth is unavailable for longer than the service's token lasts.
func TestTheHourlyJobWithoutATokenStoresNothingAndFails(t *testing.T) {
	w := newPortfolios(3)
	w.token = errs.Unavailable("AUTH_UNAVAILABLE", "auth has issued no token for 6m0s")
	if err := w.run(t); !errors.Is(err, w.token) || len(w.stored) != 0 {
		t.Errorf("%d were stored, %v", len(w.stored), err)
	}
}

func TestTheHourlyJobStoresNothingForAPortfolioThatIsEmptyOrWasNeverSynced(t *testing.T) {
	w := newPortfolios(3)
	w.held[w.ids[0]] = snapshot.OwnerHoldings{Owner: w.ids[0]}
	w.held[w.ids[1]] = snapshot.OwnerHoldings{Owner: w.ids[1], Wallets: []valuation.Wallet{{}}} // never synced
	if err := w.run(t); err != nil || len(w.stored) != 1 || w.stored[w.ids[2]] != 1 {
		t.Errorf("stored %v, %v", w.stored, err)
	}
}

// A wallet that is refreshed, of which nothing is known meanwhile, is no 0: neither is one stored, nor is the
// portfolio passed over once it is known again.
func TestTheHourlyJobStoresNoZeroDuringARefresh(t *testing.T) {
	w := newPortfolios(2)
	before := w.held[w.ids[0]]
	refreshed := before
	refreshed.Wallets, refreshed.Holdings = []valuation.Wallet{{}}, nil
	w.held[w.ids[0]] = refreshed
	if err := w.run(t); err != nil || w.stored[w.ids[0]] != 0 || w.stored[w.ids[1]] != 1 {
		t.Errorf("stored %v, %v", w.stored, err)
	}
	w.held[w.ids[0]] = before
	if err := w.run(t); err != nil || w.stored[w.ids[0]] != 1 || w.stored[w.ids[1]] != 1 {
		t.Errorf("stored %v then, %v", w.stored, err)
	}
	if w.zeros != 0 {
		t.Errorf("%d values of 0 were stored", w.zeros)
	}
}
