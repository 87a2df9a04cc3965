package store_test

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// A chain is of one replica until its lease ends, and the other one goes on from the last block. Who has lost the
// chain stores nothing.
func TestAChainIsFollowedByOneReplica(t *testing.T) {
	f := newFixture(t)
	one, other := uuid.New(), uuid.New()
	claim := func(replica uuid.UUID, lease time.Duration, mine bool, number uint64) {
		t.Helper()
		last, ok, err := f.ClaimHead(t.Context(), 1, replica, lease)
		if err != nil || ok != mine || last.Number != number || number > 0 && last.Hash[0] != byte(number) {
			t.Fatalf("%v, %t, %v, want %t and block %d", last, ok, err, mine, number)
		}
	}
	save := func(replica uuid.UUID, number uint64) {
		t.Helper()
		if err := f.SaveHead(t.Context(), 1, replica, block.Block{Number: number,
			Hash: common.Hash{byte(number)}}); err != nil {
			t.Fatal(err)
		}
	}
	claim(one, time.Hour, true, 0)
	claim(other, time.Hour, false, 0)
	save(one, 7)
	save(other, 9)
	claim(one, -time.Second, true, 7) // which has ended by now
	claim(other, time.Hour, true, 7)
	save(one, 8)
	claim(one, time.Hour, false, 0)
	claim(other, time.Hour, true, 7)
	if _, ok, err := f.ClaimHead(t.Context(), 137, one, time.Hour); !ok || err != nil {
		t.Errorf("another chain: %t, %v", ok, err)
	}
}

// Every owner's wallet of an account is found, in lower case, and no archived one.
func TestWalletsAreFoundByTheirAccounts(t *testing.T) {
	f := newFixture(t)
	ada, eve := uuid.New(), uuid.New()
	hers := f.create(t, ada, 0xAB)
	theirs := f.create(t, eve, 0xAB)
	f.create(t, ada, 0xAC)
	accounts := []common.Address{hers.Account.Address, {1, 2, 3}}
	find := func(chain uint64, accounts []common.Address, limit, want int) {
		t.Helper()
		found, err := f.At(t.Context(), chain, accounts, limit)
		if err != nil || len(found) != want {
			t.Fatalf("%d wallets, %v, want %d", len(found), err, want)
		}
	}
	find(1, accounts, 10, 2)
	find(1, accounts, 1, 1)
	find(137, accounts, 10, 0)
	var others []common.Address
	for i := range 70_000 { // more than the parameters of a statement
		others = append(others, common.Address{0xFF, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	find(1, append(others, accounts...), 10, 2)
	if _, err := f.db.SQL().ExecContext(t.Context(), "UPDATE wallets SET archived_at = now() WHERE id = $1",
		theirs.ID); err != nil {
		t.Fatal(err)
	}
	find(1, accounts, 10, 1)
}
