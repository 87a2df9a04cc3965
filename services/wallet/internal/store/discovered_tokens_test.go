package store_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
)

// Anybody can send a wallet tokens without end. The first that came are read, and those that look like an
// advertisement take none of their places.
func TestTheFirstDiscoveredTokensOfEachWalletAreRead(t *testing.T) {
	f := newFixture(t)
	few, many := f.create(t, f.owner, 1), f.create(t, uuid.New(), 2)
	exec := func(query string, args ...any) {
		t.Helper()
		if err := f.db.Gorm(t.Context()).Exec(query, args...).Error; err != nil {
			t.Fatal(err)
		}
	}
	// Every second one looks like an advertisement.
	exec(`INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified, discovered, spam)
		SELECT 'eip155:1/erc20:0x' || lpad(to_hex(i), 40, '0'), 'eip155:1', '0x' || lpad(to_hex(i), 40, '0'), 'D' || i,
		       'D', 0, false, true, i % 2 = 1
		FROM generate_series(1048576, 1048576 + 2 * ?::int + 1) AS i`, balancesync.MaxDiscovered)
	// The later of two ids came first.
	exec(`INSERT INTO wallet_tokens (wallet_id, token_id, first_block)
		SELECT ?, id, 10000000 - substr(symbol, 2)::int FROM tokens WHERE discovered`, many.ID)
	exec(`INSERT INTO wallet_tokens (wallet_id, token_id, first_block)
		SELECT ?, id, 1 FROM tokens WHERE symbol IN ('D1048576', 'D1048577')`, few.ID)
	exec(`INSERT INTO wallet_tokens (wallet_id, token_id, first_block) VALUES (?, ?, 1)`, few.ID, f.tokens[0].ID)

	got, err := f.Discovered(t.Context(), []uuid.UUID{few.ID, many.ID, uuid.New()})
	if err != nil || len(got) != 2 {
		t.Fatalf("of %d wallets, %v", len(got), err)
	}
	var symbols []string
	for _, k := range got[few.ID] {
		symbols = append(symbols, k.Symbol)
	}
	if !slices.Equal(symbols, []string{"D1048576"}) { // neither the advertisement nor the listed one
		t.Errorf("of the first wallet %q are read", symbols)
	}
	symbols = nil
	for _, k := range got[many.ID] {
		if k.Spam {
			t.Errorf("%s is read, an advertisement", k.Symbol)
		}
		symbols = append(symbols, k.Symbol)
	}
	if len(symbols) != balancesync.MaxDiscovered || slices.Contains(symbols, "D1048576") {
		t.Errorf("of the second wallet %d are read, with the one that came last: %t", len(symbols),
			slices.Contains(symbols, "D1048576"))
	}
}
