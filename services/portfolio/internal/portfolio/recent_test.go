package portfolio_test

import (
	"context"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// recent is a cache of an hour, so that no test is overtaken by its clock.
func recent(t *testing.T) *cache.Cache[valuation.Valuation] {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: testkit.Redis(t).URL(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := cache.New[valuation.Valuation](client, cache.Namespace{Service: "portfolio", Entity: "valuation", Schema: 1},
		cache.Options{TTL: time.Hour, LoadTimeout: portfolio.RecentLoad, Budget: 5 * time.Second})
	t.Cleanup(c.Close)
	return c
}

func holding(price, reason string) []valuation.Holding {
	return []valuation.Holding{{TokenID: "a", Symbol: "A", Verified: true, Amount: big.NewInt(1), Price: price,
		Reason: reason}}
}

func TestWhatIsCachedOfAValuation(t *testing.T) {
	away := errs.Unavailable("WALLET_UNAVAILABLE", "away")
	for _, tc := range []struct {
		name   string
		world  func(owner uuid.UUID) *world
		cached bool
	}{
		{"a complete one is", func(o uuid.UUID) *world { return &world{owner: o, holdings: holding("5", "")} }, true},
		{"an incomplete one is not", func(o uuid.UUID) *world {
			return &world{owner: o,
				holdings: holding("", "NO_PRICE")}
		}, false},
		{"the last snapshot is not", func(o uuid.UUID) *world { return &world{owner: o, away: away} }, false},
		{"one whose caller may not read holdings is not",
			func(o uuid.UUID) *world { return &world{owner: o, holdings: holding("5", ""), barred: true} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, owner := recent(t), uuid.New()
			p := portfolio.Portfolio{ID: uuid.New(), Owner: owner}
			first := tc.world(owner)
			if _, err := portfolio.NewService(first, first, first, c, noon).ValueOrLast(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			later := func() time.Time { return noon().Add(time.Second) }
			second := &world{owner: owner, holdings: holding("7", "")}
			s := portfolio.NewService(second, second, second, c, later)
			want, at := "7.00000000", later()
			if tc.cached {
				want, at = "5.00000000", noon()
			}
			for range 2 {
				if v, err := s.ValueOrLast(t.Context(), p); err != nil || v.Total.Text('f') != want ||
					!v.At.Equal(at) || v.Stale || !v.Complete() {
					t.Errorf("answered %s of %s, %v; want %s of %s", v.Total, v.At, err, want, at)
				}
			}
			// What is stored is worked out anew, always.
			if v, err := s.Value(t.Context(), p); err != nil || v.Total.Text('f') != "7.00000000" {
				t.Errorf("Value answered %s, %v", v.Total, err)
			}
			second.barred, second.away = true, errs.PermissionDenied("PERMISSION_MISSING", "x")
			if _, err := s.ValueOrLast(t.Context(), p); !errs.Is(err, errs.KindPermissionDenied) {
				t.Errorf("one who may not read the holdings is answered %v", err)
			}
			stranger := &world{owner: uuid.New(), holdings: holding("9", "")}
			theirs := portfolio.Portfolio{ID: p.ID, Owner: stranger.owner}
			if v, err := portfolio.NewService(stranger, stranger, stranger, c, noon).ValueOrLast(t.Context(),
				theirs); err != nil || v.Total.Text('f') != "9.00000000" {
				t.Errorf("somebody else is answered %s, %v", v.Total, err)
			}
		})
	}
}

func TestAnIncompleteValuationIsAnsweredWhole(t *testing.T) {
	w := &world{owner: uuid.New(), holdings: holding("", "NO_PRICE")}
	v, err := portfolio.NewService(w, w, w, recent(t), noon).ValueOrLast(t.Context(),
		portfolio.Portfolio{Owner: w.owner})
	if err != nil || v.Complete() || v.Unpriced != 1 || len(v.Positions) != 1 || !v.At.Equal(noon()) {
		t.Errorf("answered %+v, %v", v, err)
	}
}

// hung is a wallet service that doesn't answer.
type hung struct{ *world }

func (h hung) Of(ctx context.Context, _ uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func TestTheLastSnapshotIsAnsweredInTimeWhileTheWalletServiceHangs(t *testing.T) {
	last, err := valuation.Of([]valuation.Wallet{{Synced: true}}, holding("5", ""), noon().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{owner: uuid.New(), last: last}
	s := portfolio.NewService(w, w, hung{w}, recent(t), noon)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	v, err := s.ValueOrLast(ctx, portfolio.Portfolio{Owner: w.owner})
	if err != nil || !v.Stale || v.Total.Text('f') != "5.00000000" || ctx.Err() != nil {
		t.Errorf("answered %+v, %v", v, err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := s.ValueOrLast(gone, portfolio.Portfolio{Owner: w.owner}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone is answered %v", err)
	}
}
