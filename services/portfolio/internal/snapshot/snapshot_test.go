package snapshot_test

import (
	"context"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// recordingStore notes the buckets that are stored.
type recordingStore struct {
	snapshot.Store
	buckets []time.Time
}

func (m *recordingStore) Save(_ context.Context, p portfolio.Portfolio, bucket time.Time,
	v valuation.Valuation) (snapshot.Snapshot, bool, error) {
	m.buckets = append(m.buckets, bucket)
	return snapshot.Snapshot{Portfolio: p.ID, Bucket: bucket, Total: v.Total}, true, nil
}

func (m *recordingStore) Complete(context.Context, uuid.UUID, time.Time, int) (*snapshot.Snapshot, error) {
	return nil, nil //nolint:nilnil // none is no error
}

func (m *recordingStore) AdoptPrices(context.Context, []valuation.Assets) error { return nil }
func (m *recordingStore) MendPrices(context.Context, []valuation.Assets) error  { return nil }

type fakeHoldings struct {
	assets valuation.Assets
	err    error
}

func (h fakeHoldings) Assets(context.Context, portfolio.Portfolio) (valuation.Assets, error) {
	return h.assets, h.err
}

func (h fakeHoldings) Memberships(context.Context, portfolio.Portfolio, time.Time, time.Time) (portfolio.Memberships,
	error) {
	return portfolio.Memberships{{From: portfolio.Beginning()}}, h.err
}

func holding(verified bool, price, reason string) valuation.Holding {
	return valuation.Holding{TokenID: price + reason, Amount: big.NewInt(1), Verified: verified,
		Price: valuation.Price{Amount: price, UnpricedReason: reason}}
}

func TestTake(t *testing.T) {
	synced, never := valuation.Wallet{Account: "s", Synced: true}, valuation.Wallet{Account: "n"}
	priced, unavailable, none := holding(true, "5", ""), holding(true, "", "SOURCE_UNAVAILABLE"),
		holding(true, "", "NO_PRICE")
	spam, spamUnavailable := holding(false, "5", ""), holding(false, "", "SOURCE_UNAVAILABLE")
	for _, tc := range []struct {
		name     string
		wallets  []valuation.Wallet
		holdings []valuation.Holding
		reason   string // "" for stored
	}{
		{"what is known is stored", []valuation.Wallet{synced}, []valuation.Holding{priced}, ""},
		{"one price unavailable is stored as incomplete", []valuation.Wallet{synced},
			[]valuation.Holding{priced, unavailable}, ""},
		{"all prices unavailable", []valuation.Wallet{synced}, []valuation.Holding{unavailable}, "PRICES_UNAVAILABLE"},
		{"all prices unavailable or none", []valuation.Wallet{synced}, []valuation.Holding{unavailable, none},
			"PRICES_UNAVAILABLE"},
		{"all prices unavailable but that of spam", []valuation.Wallet{synced}, []valuation.Holding{unavailable, spam},
			"PRICES_UNAVAILABLE"},
		{"only spam's price unavailable", []valuation.Wallet{synced}, []valuation.Holding{spamUnavailable}, ""},
		{"tokens that nobody prices, which an empty answer of the feed looks like", []valuation.Wallet{synced},
			[]valuation.Holding{none}, "PRICES_UNAVAILABLE"},
		{"no holdings are worth zero", []valuation.Wallet{synced}, nil, ""},
		{"no wallets are worth zero", nil, nil, ""},
		{"one wallet of two never synced", []valuation.Wallet{synced, never}, []valuation.Holding{priced}, ""},
		{"one wallet of two never synced and the other empty", []valuation.Wallet{synced, never}, nil,
			"WALLETS_NOT_SYNCED"},
		{"no wallet ever synced", []valuation.Wallet{never, never}, nil, "WALLETS_NOT_SYNCED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := time.Date(2026, 3, 1, 12, 59, 59, 999, time.FixedZone("", 5400))
			v, err := valuation.Add(tc.wallets, tc.holdings, at)
			if err != nil {
				t.Fatal(err)
			}
			m := &recordingStore{}
			id := uuid.New()
			snap, stored, err := snapshot.NewService(m, fakeHoldings{assets: v}, nil, nil, time.Now).Take(t.Context(),
				portfolio.Portfolio{ID: id})
			if tc.reason == "" {
				// Half past eleven, UTC.
				if err != nil || !stored || snap.Portfolio != id || len(m.buckets) != 1 ||
					m.buckets[0] != time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC) {
					t.Errorf("%+v in %v, %v", snap, m.buckets, err)
				}
				return
			}
			if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != tc.reason || stored ||
				len(m.buckets) != 0 {
				t.Errorf("answered %v, stored %v", err, m.buckets)
			}
		})
	}
}

func TestWhileTheWalletServiceIsUnavailableNothingIsStored(t *testing.T) {
	m := &recordingStore{}
	_, _, err := snapshot.NewService(m, fakeHoldings{err: errs.Unavailable("WALLET_UNAVAILABLE", "unavailable")}, nil,
		nil,
		time.Now).Take(t.Context(), portfolio.Portfolio{})
	if e := errs.As(err); e == nil || e.Reason != "WALLET_UNAVAILABLE" || len(m.buckets) != 0 {
		t.Errorf("answered %v, stored %v", err, m.buckets)
	}
}
