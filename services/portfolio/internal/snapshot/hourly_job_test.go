package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// fakePortfolios are the portfolios of all users, what they are worth, and how often
// each was stored.
type fakePortfolios struct {
	snapshot.Store
	ids    []uuid.UUID
	value  map[uuid.UUID]func() (valuation.Assets, error)
	stored map[uuid.UUID]int
	token  error // of asThisService
}

func newPortfolios(n int) *fakePortfolios {
	w := &fakePortfolios{value: map[uuid.UUID]func() (valuation.Assets, error){}, stored: map[uuid.UUID]int{}}
	for range n {
		w.ids = append(w.ids, uuid.New())
	}
	slices.SortFunc(w.ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return w
}

func (w *fakePortfolios) DueForSnapshot(_ context.Context, _ time.Time, _, _ int, after uuid.UUID,
	limit int) ([]portfolio.Portfolio, error) {
	var due []portfolio.Portfolio
	for _, id := range w.ids {
		if bytes.Compare(id[:], after[:]) > 0 && w.stored[id] == 0 && len(due) < limit {
			due = append(due, portfolio.Portfolio{ID: id})
		}
	}
	return due, nil
}

func (w *fakePortfolios) AdoptPrices(context.Context, []valuation.Assets) error { return nil }

func (w *fakePortfolios) Assets(_ context.Context, p portfolio.Portfolio) (valuation.Assets, error) {
	if value := w.value[p.ID]; value != nil {
		return value()
	}
	return valuation.Add([]valuation.Wallet{{Synced: true}},
		[]valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(1),
			Price: valuation.Price{Amount: "5"}}}, at())
}

func (w *fakePortfolios) Save(_ context.Context, p portfolio.Portfolio, _ time.Time,
	_ valuation.Valuation) (snapshot.Snapshot, bool, error) {
	w.stored[p.ID]++
	return snapshot.Snapshot{}, true, nil
}

func at() time.Time { return time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC) }

func (w *fakePortfolios) run(t *testing.T) error {
	t.Helper()
	as := func(ctx context.Context) (context.Context, error) { return ctx, w.token }
	return snapshot.NewHourlyJob(w, snapshot.NewService(w, w, nil, slog.New(slog.DiscardHandler), at), as,
		slog.New(slog.DiscardHandler), at).Run(t.Context(), 0, 1)
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
}

func TestTheHourlyJobContinuesWithTheOtherPortfoliosAfterAFailure(t *testing.T) {
	unavailable := errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")
	w := newPortfolios(10)
	failing := true
	w.value[w.ids[6]] = func() (valuation.Assets, error) {
		if failing {
			return valuation.Assets{}, unavailable
		}
		return valuation.Assets{}, errs.Exhausted("TOO_MANY_HOLDINGS", "too many")
	}
	if err := w.run(t); !errors.Is(err, unavailable) || len(w.stored) != 6 {
		t.Fatalf("%d were stored, %v", len(w.stored), err)
	}
	failing = false
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
	w.value[w.ids[0]] = func() (valuation.Assets, error) { return valuation.Add(nil, nil, at()) }
	w.value[w.ids[1]] = func() (valuation.Assets, error) {
		return valuation.Add([]valuation.Wallet{{}}, nil, at()) // never synced
	}
	if err := w.run(t); err != nil || len(w.stored) != 1 || w.stored[w.ids[2]] != 1 {
		t.Errorf("stored %v, %v", w.stored, err)
	}
}
