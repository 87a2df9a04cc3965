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

// world is the store, the snapshots and the wallet service of a test.
type world struct {
	owner    uuid.UUID
	asked    portfolio.Portfolio
	last     valuation.Valuation
	lastErr  error
	holdings []valuation.Holding
	away     error
	barred   bool // from reading holdings
}

func (w *world) ByID(_ context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	if owner != w.owner {
		return portfolio.Portfolio{}, errs.NotFound("portfolio")
	}
	return portfolio.Portfolio{ID: id, Owner: owner}, nil
}

func (w *world) Default(_ context.Context, fresh portfolio.Portfolio) (portfolio.Portfolio, error) {
	w.asked = fresh
	return fresh, nil
}

func (w *world) Last(context.Context, uuid.UUID) (valuation.Valuation, error) {
	return w.last, w.lastErr
}

func (w *world) Of(_ context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error) {
	if owner != w.owner {
		return nil, nil, errors.New("asked for somebody else's holdings")
	}
	return []valuation.Wallet{{Synced: true}}, w.holdings, w.away
}

func (w *world) Readable(context.Context) bool { return !w.barred }

func (w *world) service() *portfolio.Service { return portfolio.NewService(w, w, w, nil, noon) }

func TestNoIDMeansTheDefaultPortfolio(t *testing.T) {
	w := &world{owner: uuid.New()}
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
		t.Errorf("somebody else's: %v", err)
	}
}

func TestTheLastSnapshotStandsInWhileTheWalletServiceIsAway(t *testing.T) {
	away := errs.Unavailable("WALLET_UNAVAILABLE", "away")
	last, err := valuation.Of([]valuation.Wallet{{Synced: true}},
		[]valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(3), Price: "5"}}, noon().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, tc := range []struct {
		name    string
		away    error
		lastErr error
		total   string // "" for an error
		stale   bool
		want    error
	}{
		{"the wallet service answers", nil, nil, "7.00000000", false, nil},
		{"it is away", away, nil, "15.00000000", true, nil},
		{"it is away and there is no snapshot", away, errs.NotFound("snapshot"), "", false, away},
		{"it is away and so is the database", away, broken, "", false, broken},
		{"it refuses the caller", errs.PermissionDenied("PERMISSION_MISSING", "x"), nil, "", false, nil},
		{"it holds too much", errs.Exhausted("TOO_MANY_HOLDINGS", "x"), nil, "", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{owner: uuid.New(), last: last, lastErr: tc.lastErr, away: tc.away,
				holdings: []valuation.Holding{{TokenID: "a", Verified: true, Amount: big.NewInt(1), Price: "7"}}}
			v, err := w.service().ValueOrLast(t.Context(), portfolio.Portfolio{Owner: w.owner})
			if tc.total == "" {
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("answered %+v, %v", v, err)
				}
				return
			}
			if err != nil || v.Total.Text('f') != tc.total || v.Stale != tc.stale || v.Complete() == tc.stale {
				t.Fatalf("answered %+v, %v", v, err)
			}
			if tc.stale && (!v.At.Equal(noon().Add(-time.Hour)) || !strings.Contains(v.Reasons[0], "last snapshot")) {
				t.Errorf("of %s, %q", v.At, v.Reasons)
			}
			// A snapshot is taken of what is there now, or not at all.
			if _, err := w.service().Value(t.Context(), portfolio.Portfolio{Owner: w.owner}); !errors.Is(err,
				tc.away) {
				t.Errorf("Value answered %v", err)
			}
		})
	}
}
