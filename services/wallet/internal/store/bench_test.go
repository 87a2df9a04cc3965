package store_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// A page of wallets from the cache, beside the same page from Postgres.
func BenchmarkListWallets(b *testing.B) {
	f := newFixture(b)
	for i := range 20 {
		f.save(b, f.create(b, f.owner, byte(i)), 1, balance(f.tokens[0], 1, 1), balance(f.tokens[1], 2, 1),
			balance(f.tokens[2], 3, 1))
	}
	cached := store.NewWallets(f.db.DB, caches(b, testkit.Redis(b).URL()))
	for name, balances := range map[string]bool{"basic": false, "with balances": true} {
		b.Run(name, func(b *testing.B) {
			list := func(s *store.Wallets) func() {
				return func() {
					got, err := s.List(b.Context(), f.owner, uuid.Nil, 50, wallet.Listing{Balances: balances})
					if err != nil || len(got) != 20 {
						b.Fatal(len(got), err)
					}
				}
			}
			versus.Run(b, versus.Comparison{Raw: list(f.Wallets), Ours: list(cached)})
		})
	}
}
