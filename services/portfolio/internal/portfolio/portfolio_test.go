package portfolio_test

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// fakeDependencies are the store, the snapshots and the holdings.
type fakeDependencies struct {
	portfolio.Store
	owner       uuid.UUID
	created     portfolio.Portfolio
	last        valuation.Valuation
	lastErr     error
	holdings    []valuation.Holding
	holdingsErr error
	mayNotRead  bool
}

func (w *fakeDependencies) ByID(_ context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	if owner != w.owner {
		return portfolio.Portfolio{}, errs.NotFound("portfolio")
	}
	return portfolio.Portfolio{ID: id, Owner: owner}, nil
}

func (w *fakeDependencies) FindOrCreateDefault(_ context.Context, fresh portfolio.Portfolio) (portfolio.Portfolio,
	error) {
	w.created = fresh
	return fresh, nil
}

func (w *fakeDependencies) Memberships(context.Context, uuid.UUID, time.Time, time.Time) (portfolio.Memberships,
	error) {
	return portfolio.Memberships{{From: portfolio.Beginning()}}, nil
}

func (w *fakeDependencies) Renew(_ context.Context, _ portfolio.Portfolio, old portfolio.Membership, digest string,
	empty bool) (portfolio.Membership, error) {
	old.Digest, old.Empty = digest, empty
	return old, nil
}

func (w *fakeDependencies) LastSnapshot(context.Context, uuid.UUID, time.Time) (valuation.Valuation, error) {
	return w.last, w.lastErr
}

func (w *fakeDependencies) Current(_ context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding,
	error) {
	if owner != w.owner {
		return nil, nil, errors.New("asked for another user's holdings")
	}
	return []valuation.Wallet{{Synced: true}}, w.holdings, w.holdingsErr
}

func (w *fakeDependencies) MayRead(context.Context) bool { return !w.mayNotRead }

func (w *fakeDependencies) service() *portfolio.Service {
	return portfolio.NewService(w, w, w, nil, noon)
}

func TestNoIDMeansTheDefaultPortfolio(t *testing.T) {
	w := &fakeDependencies{owner: uuid.New()}
	p, err := w.service().Find(t.Context(), w.owner, uuid.Nil)
	if err != nil || p.Owner != w.owner || !p.Default || p.Name != portfolio.DefaultName || p.ID.Version() != 7 ||
		!p.CreatedAt.Equal(noon()) {
		t.Errorf("%+v, %v", p, err)
	}
	id := uuid.New()
	if p, err := w.service().Find(t.Context(), w.owner, id); err != nil || p.ID != id {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := w.service().Find(t.Context(), uuid.New(), id); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("another user's: %v", err)
	}
}

func TestTheLastSnapshotIsReturnedWhileTheWalletServiceIsUnavailable(t *testing.T) {
	unavailable := errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")
	last, err := valuation.Compute([]valuation.Wallet{{Synced: true}},
		[]valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(3),
			Price: valuation.Price{Amount: "5"}}}, noon().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, tc := range []struct {
		name        string
		holdingsErr error
		lastErr     error
		total       string // "" for an error
		stale       bool
		want        error
	}{
		{"the wallet service answers", nil, nil, "7.00000000", false, nil},
		{"it is unavailable", unavailable, nil, "15.00000000", true, nil},
		{"it is unavailable and there is no snapshot", unavailable, errs.NotFound("snapshot"), "", false, unavailable},
		{"it is unavailable and so is the database", unavailable, broken, "", false, broken},
		{"it refuses the caller", errs.PermissionDenied("PERMISSION_MISSING", "x"), nil, "", false, nil},
		{"it holds too much", errs.Exhausted("TOO_MANY_HOLDINGS", "x"), nil, "", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &fakeDependencies{owner: uuid.New(), last: last, lastErr: tc.lastErr, holdingsErr: tc.holdingsErr,
				holdings: []valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(1),
					Price: valuation.Price{Amount: "7"}}}}
			v, err := w.service().ValueOrLastSnapshot(t.Context(), portfolio.Portfolio{Owner: w.owner})
			if tc.total == "" {
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("answered %+v, %v", v, err)
				}
				return
			}
			if err != nil || v.Total.Text('f') != tc.total || v.Stale != tc.stale || v.Complete() == tc.stale {
				t.Fatalf("answered %+v, %v", v, err)
			}
			if tc.stale && (!v.ValuationTime.Equal(noon().Add(-time.Hour)) ||
				!strings.Contains(v.IncompleteReasons[0], "last snapshot")) {
				t.Errorf("of %s, %q", v.ValuationTime, v.IncompleteReasons)
			}
			// Value, which snapshots are taken of, never returns the last snapshot.
			if _, err := w.service().Value(t.Context(), portfolio.Portfolio{Owner: w.owner}); !errors.Is(err,
				tc.holdingsErr) {
				t.Errorf("Value answered %v", err)
			}
		})
	}
}
