package store_test

import (
	"math/big"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// What users recorded of lots is read back as it was, in the order of its times, and erased with them alone.
func TestIdentificationsAreReadBackAndErasedWithTheirOwner(t *testing.T) {
	f := newFixture(t, noRedis)
	s := store.NewIdentifications(f.db.DB)
	mine, other := uuid.New(), uuid.New()
	huge := new(big.Int).Lsh(big.NewInt(1), 256)
	for _, owner := range []uuid.UUID{mine, other, mine} {
		_, err := s.Identify(t.Context(), gains.Identification{ID: uuid.New(), Owner: owner, Wallet: uuid.NewString(),
			Token: "eip155:1/slip44:60", Hash: "0x1", Picks: []lots.Pick{{Lot: "lot:1", Quantity: huge},
				{Lot: "lot:2", Quantity: big.NewInt(2)}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Identifications(t.Context(), mine)
	if err != nil || len(all) != 2 || all[1].Recorded.Before(all[0].Recorded) || all[0].Hash != "0x1" ||
		len(all[0].Picks) != 2 || all[0].Picks[0].Quantity.Cmp(huge) != 0 || all[0].Picks[1].Lot != "lot:2" {
		t.Fatalf("%+v, %v", all, err)
	}
	owners, err := store.NewOwners(f.db.DB, f.caches(t), nil).Owners(t.Context(), uuid.Nil, 10)
	if err != nil || !slices.Contains(owners, mine) {
		t.Fatal(owners, err)
	}
	f.erase(t, mine)
	if all, err := s.Identifications(t.Context(), mine); err != nil || len(all) != 0 {
		t.Errorf("%d are left, %v", len(all), err)
	}
	if all, err := s.Identifications(t.Context(), other); err != nil || len(all) != 1 {
		t.Errorf("another owner has %d, %v", len(all), err)
	}
}
