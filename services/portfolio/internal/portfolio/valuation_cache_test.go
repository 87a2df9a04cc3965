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

// newCache returns a cache whose entries outlive the test.
func newCache(t *testing.T) *cache.Cache[valuation.Valuation] {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: testkit.Redis(t).URL(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := cache.New[valuation.Valuation](client, cache.Namespace{Service: "portfolio", Entity: "valuation", Schema: 1},
		cache.Options{TTL: time.Hour, LoadTimeout: portfolio.ValuationLoadTimeout, Budget: 5 * time.Second})
	t.Cleanup(c.Close)
	return c
}

func holding(price, reason string) []valuation.Holding {
	return []valuation.Holding{{TokenID: "a", Symbol: "A", Verified: true, Amount: big.NewInt(1),
		Price: valuation.Price{Amount: price, UnpricedReason: reason}}}
}

func TestWhatIsCachedOfAValuation(t *testing.T) {
	unavailable := errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")
	for _, tc := range []struct {
		name             string
		fakeDependencies func(owner uuid.UUID) *fakeDependencies
		cached           bool
	}{
		{"a complete one is", func(o uuid.UUID) *fakeDependencies {
			return &fakeDependencies{owner: o,
				holdings: holding("5", "")}
		}, true},
		{"an incomplete one is not", func(o uuid.UUID) *fakeDependencies {
			return &fakeDependencies{owner: o,
				holdings: holding("", "NO_PRICE")}
		}, false},
		{"the last snapshot is not", func(o uuid.UUID) *fakeDependencies {
			return &fakeDependencies{owner: o,
				holdingsErr: unavailable}
		}, false},
		{"one whose caller may not read holdings is not",
			func(o uuid.UUID) *fakeDependencies {
				return &fakeDependencies{owner: o, holdings: holding("5", ""), mayNotRead: true}
			}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, owner := newCache(t), uuid.New()
			p := portfolio.Portfolio{ID: uuid.New(), Owner: owner}
			first := tc.fakeDependencies(owner)
			if _, err := portfolio.NewService(first, first, first, c, noon).ValueOrLastSnapshot(t.Context(),
				p); err != nil {
				t.Fatal(err)
			}
			later := func() time.Time { return noon().Add(time.Second) }
			second := &fakeDependencies{owner: owner, holdings: holding("7", "")}
			s := portfolio.NewService(second, second, second, c, later)
			want, at := "7.00000000", later()
			if tc.cached {
				want, at = "5.00000000", noon()
			}
			for range 2 {
				if v, err := s.ValueOrLastSnapshot(t.Context(), p); err != nil || v.Total.Text('f') != want ||
					!v.ValuationTime.Equal(at) || v.Stale || !v.Complete() {
					t.Errorf("answered %s of %s, %v; want %s of %s", v.Total, v.ValuationTime, err, want, at)
				}
			}
			// Value never uses the cache.
			if v, err := s.Value(t.Context(), p); err != nil || v.Total.Text('f') != "7.00000000" {
				t.Errorf("Value answered %s, %v", v.Total, err)
			}
			second.mayNotRead, second.holdingsErr = true, errs.PermissionDenied("PERMISSION_MISSING", "x")
			if _, err := s.ValueOrLastSnapshot(t.Context(), p); !errs.Is(err, errs.KindPermissionDenied) {
				t.Errorf("one who may not read the holdings is answered %v", err)
			}
			stranger := &fakeDependencies{owner: uuid.New(), holdings: holding("9", "")}
			theirs := portfolio.Portfolio{ID: p.ID, Owner: stranger.owner}
			if v, err := portfolio.NewService(stranger, stranger, stranger, c, noon).ValueOrLastSnapshot(t.Context(),
				theirs); err != nil || v.Total.Text('f') != "9.00000000" {
				t.Errorf("another user is answered %s, %v", v.Total, err)
			}
		})
	}
}

func TestAnIncompleteValuationIsAnsweredWhole(t *testing.T) {
	w := &fakeDependencies{owner: uuid.New(), holdings: holding("", "NO_PRICE")}
	v, err := portfolio.NewService(w, w, w, newCache(t), noon).ValueOrLastSnapshot(t.Context(),
		portfolio.Portfolio{Owner: w.owner})
	if err != nil || v.Complete() || v.Unpriced != 1 || len(v.Positions) != 1 || !v.ValuationTime.Equal(noon()) {
		t.Errorf("answered %+v, %v", v, err)
	}
}

// hangingHoldings never answers.
type hangingHoldings struct{ *fakeDependencies }

func (h hangingHoldings) Current(ctx context.Context, _ uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func TestTheLastSnapshotIsAnsweredInTimeWhileTheWalletServiceHangs(t *testing.T) {
	last, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, holding("5", ""), noon().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w := &fakeDependencies{owner: uuid.New(), last: last}
	s := portfolio.NewService(w, w, hangingHoldings{w}, newCache(t), noon)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	v, err := s.ValueOrLastSnapshot(ctx, portfolio.Portfolio{Owner: w.owner})
	if err != nil || !v.Stale || v.Total.Text('f') != "5.00000000" || ctx.Err() != nil {
		t.Errorf("answered %+v, %v", v, err)
	}
	canceled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if _, err := s.ValueOrLastSnapshot(canceled, portfolio.Portfolio{Owner: w.owner}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("a canceled call is answered %v", err)
	}
}
