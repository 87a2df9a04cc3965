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

// town is everybody's portfolios, what they are worth and what was stored.
type town struct {
	snapshot.Store
	ids    []uuid.UUID
	worth  map[uuid.UUID]func() (valuation.Valuation, error)
	stored map[uuid.UUID]int
	name   error // of signing in in the service's own name
}

func newTown(n int) *town {
	w := &town{worth: map[uuid.UUID]func() (valuation.Valuation, error){}, stored: map[uuid.UUID]int{}}
	for range n {
		w.ids = append(w.ids, uuid.New())
	}
	slices.SortFunc(w.ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return w
}

func (w *town) Due(_ context.Context, _ time.Time, _, _ int, after uuid.UUID, limit int) ([]portfolio.Portfolio,
	error) {
	var due []portfolio.Portfolio
	for _, id := range w.ids {
		if bytes.Compare(id[:], after[:]) > 0 && w.stored[id] == 0 && len(due) < limit {
			due = append(due, portfolio.Portfolio{ID: id})
		}
	}
	return due, nil
}

func (w *town) Value(_ context.Context, p portfolio.Portfolio) (valuation.Valuation, error) {
	if worth := w.worth[p.ID]; worth != nil {
		return worth()
	}
	return valuation.Of([]valuation.Wallet{{Synced: true}},
		[]valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(1), Price: "5"}}, at())
}

func (w *town) Save(_ context.Context, p portfolio.Portfolio, _ time.Time, _ valuation.Valuation) (snapshot.Snapshot,
	bool, error) {
	w.stored[p.ID]++
	return snapshot.Snapshot{}, true, nil
}

func at() time.Time { return time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC) }

func (w *town) round(t *testing.T) error {
	t.Helper()
	as := func(ctx context.Context) (context.Context, error) { return ctx, w.name }
	return snapshot.NewRound(w, snapshot.NewService(w, w, nil, slog.New(slog.DiscardHandler), at), as,
		slog.New(slog.DiscardHandler), at).Run(t.Context(), 0, 1)
}

func TestARoundTakesEverybodysOnce(t *testing.T) {
	w := newTown(450)
	if err := w.round(t); err != nil {
		t.Fatal(err)
	}
	if err := w.round(t); err != nil { // finds nothing due
		t.Fatal(err)
	}
	for _, id := range w.ids {
		if w.stored[id] != 1 {
			t.Fatalf("a portfolio was stored %d times", w.stored[id])
		}
	}
}

func TestARoundGoesOnWithTheRestAfterAFailure(t *testing.T) {
	away := errs.Unavailable("WALLET_UNAVAILABLE", "away")
	w := newTown(10)
	failing := true
	w.worth[w.ids[6]] = func() (valuation.Valuation, error) {
		if failing {
			return valuation.Valuation{}, away
		}
		return valuation.Valuation{}, errs.Exhausted("TOO_MANY_HOLDINGS", "too many")
	}
	if err := w.round(t); !errors.Is(err, away) || len(w.stored) != 6 {
		t.Fatalf("%d were stored, %v", len(w.stored), err)
	}
	failing = false
	if err := w.round(t); err != nil || len(w.stored) != 9 {
		t.Errorf("%d were stored then, %v", len(w.stored), err)
	}
}

// Auth is away for longer than the service's token lasts.
func TestARoundWithoutATokenWritesNothingAndSaysSo(t *testing.T) {
	w := newTown(3)
	w.name = errs.Unavailable("AUTH_UNAVAILABLE", "auth gives no token and has been away for 6m0s")
	if err := w.round(t); !errors.Is(err, w.name) || len(w.stored) != 0 {
		t.Errorf("%d were stored, %v", len(w.stored), err)
	}
}

func TestARoundStoresNothingOfWhatIsEmptyOrUnseen(t *testing.T) {
	w := newTown(3)
	w.worth[w.ids[0]] = func() (valuation.Valuation, error) { return valuation.Of(nil, nil, at()) }
	w.worth[w.ids[1]] = func() (valuation.Valuation, error) {
		return valuation.Of([]valuation.Wallet{{}}, nil, at()) // never synced
	}
	if err := w.round(t); err != nil || len(w.stored) != 1 || w.stored[w.ids[2]] != 1 {
		t.Errorf("stored %v, %v", w.stored, err)
	}
}
