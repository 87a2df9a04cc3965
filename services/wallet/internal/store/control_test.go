package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// The controls of the races in this package: what would happen without the
// safeguard, on the same tables, with writers that have all read before one
// writes.

func TestWithoutTheVersionInTheUpdateBothRenamesWin(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	var read sync.WaitGroup
	read.Add(2)
	failures := race(2, func(i int) error {
		_, err := f.ByID(t.Context(), f.owner, w.ID)
		read.Done()
		read.Wait()
		if err != nil {
			return err
		}
		_, err = f.db.SQL().ExecContext(context.Background(),
			"UPDATE wallets SET label = $2, version = version + 1 WHERE id = $1", w.ID, fmt.Sprint(i))
		return err
	})
	got, err := f.ByID(t.Context(), f.owner, w.ID)
	if err != nil || failures[0] != nil || failures[1] != nil || got.Version != 3 {
		t.Errorf("%v, version %d, %v: the race proves nothing", failures, got.Version, err)
	}
}

// Without the claim the second of two equal calls is told that the wallet
// exists, instead of being given it.
func TestWithoutTheRequestIDTheSecondOfTwoEqualCallsFails(t *testing.T) {
	f := newFixture(t)
	failed := 0
	for _, err := range race(8, func(int) error {
		_, err := f.Create(t.Context(), fresh(f.owner, 1), many, nil)
		return err
	}) {
		if err != nil {
			failed++
		}
	}
	if failed != 7 {
		t.Errorf("%d of 8 fail: the race proves nothing", failed)
	}
}

// Without the comparison of blocks the reading that comes last stays.
func TestWithoutTheBlockInTheUpsertAnOldBalanceStays(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	f.save(t, w, 10, balance(f.tokens[0], 5, 10))
	_, err := f.db.SQL().ExecContext(t.Context(), `INSERT INTO balances VALUES ($1, $2, 1, 9, '', now())
		ON CONFLICT (wallet_id, token_id) DO UPDATE
		SET amount = excluded.amount, block_number = excluded.block_number`, w.ID, f.tokens[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.amounts(t, w); got[0] != "T0 1" {
		t.Errorf("balances %v: the order proves nothing", got)
	}
}

// The control of the statement counter: it counts what it is given.
func TestTheCounterOfStatementsCounts(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.create(t, f.owner, byte(i))
	}
	n := f.statements(t, func(ctx context.Context) error {
		list, err := f.List(ctx, f.owner, uuid.Nil, 10, wallet.Listing{})
		for _, w := range list {
			if _, err := f.ByID(ctx, w.Owner, w.ID); err != nil {
				return err
			}
		}
		return err
	})
	if n != 4 {
		t.Errorf("a statement for each wallet makes %d in all", n)
	}
}

// Without the lock of the count each of several calls finds a place, and takes it.
func TestWithoutTheLockTheLastPlaceIsTakenTwice(t *testing.T) {
	f := newFixture(t)
	const limit = 1
	var inserted, counted sync.WaitGroup
	inserted.Add(2)
	counted.Add(2)
	failures := race(2, func(i int) error {
		tx, err := f.db.SQL().BeginTx(context.Background(), nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		_, err = tx.Exec(`INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
			VALUES ($1, $2, $3, now(), now())`, uuid.New(), f.owner, fmt.Sprint("eip155:1:0x", i))
		inserted.Done()
		inserted.Wait()
		if err != nil {
			counted.Done()
			return err
		}
		var count int
		err = tx.QueryRow("SELECT count(*) FROM wallets WHERE owner_id = $1", f.owner).Scan(&count)
		counted.Done()
		counted.Wait()
		if err != nil || count > limit {
			return fmt.Errorf("%d wallets, %w", count, err)
		}
		return tx.Commit()
	})
	if failures[0] != nil || failures[1] != nil {
		t.Errorf("%v: the race proves nothing", failures)
	}
}
