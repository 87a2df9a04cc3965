package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/holding"
)

// statements counts what call sends, BEGIN and COMMIT not counted.
func (f fixture) statements(t *testing.T, call func(context.Context) error) (n int) {
	t.Helper()
	name := uuid.NewString()
	count := func(*gorm.DB) { n++ }
	c := f.db.Gorm(t.Context()).Callback()
	if err := errors.Join(
		c.Query().Register(name, count), c.Raw().Register(name, count), c.Row().Register(name, count),
	); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(c.Query().Remove(name), c.Raw().Remove(name), c.Row().Remove(name)) }()
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheNumberOfStatementsDoesNotGrowWithTheWallets(t *testing.T) {
	for _, wallets := range []int{1, 3, 25} {
		t.Run(fmt.Sprintf("%d wallets", wallets), func(t *testing.T) {
			f := newFixture(t)
			for i := range wallets {
				f.save(t, f.create(t, f.owner, byte(i)), 1, balance(f.tokens[0], 1, 1), balance(f.tokens[1], 2, 1))
			}
			list := f.statements(t, func(ctx context.Context) error {
				got, err := f.List(ctx, f.owner, uuid.Nil, 100, withBalances)
				if len(got) != wallets || len(got[0].Balances) != 2 || got[0].Balances[0].Token.Symbol == "" {
					t.Errorf("listed %+v", got)
				}
				return err
			})
			holdings := f.statements(t, func(ctx context.Context) error {
				got, err := f.Holdings(ctx, f.owner, holding.Cursor{}, 100)
				if len(got) != 2*wallets {
					t.Errorf("%d rows", len(got))
				}
				return err
			})
			if list != 2 || holdings != 1 {
				t.Errorf("List takes %d statements, Holdings %d; want 2 and 1", list, holdings)
			}
		})
	}
}

// At full size 200 wallets of 482 tokens, which are 96,400 balances.
func TestTheNumberOfStatementsDoesNotGrowWithTheBalances(t *testing.T) {
	f := newFixture(t)
	const tokens = 482
	wallets := testkit.Size(20, 200)
	for _, query := range []string{`INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified)
		SELECT 'eip155:1/erc20:0x' || lpad(to_hex(i), 40, '0'), 'eip155:1', '0x' || lpad(to_hex(i), 40, '0'), 'MANY',
		       'One of many', 18, true FROM generate_series(1, 482) AS i`,
		`INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT gen_random_uuid(), '` + f.owner.String() + `', 'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now()
		FROM generate_series(1, ` + fmt.Sprint(wallets) + `) AS i`} {
		if err := f.db.Gorm(t.Context()).Exec(query).Error; err != nil {
			t.Fatal(err)
		}
	}
	for digit := range 16 { // a statement has little time
		err := f.db.Gorm(t.Context()).Exec(`INSERT INTO balances (wallet_id, token_id, amount, block_number,
			block_hash, block_time) SELECT w.id, t.id, 5, 1, '\x00', now() FROM wallets w CROSS JOIN tokens t
			WHERE t.symbol = 'MANY' AND w.id::text LIKE ?`, fmt.Sprintf("%x%%", digit)).Error
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.db.Gorm(t.Context()).Exec("ANALYZE").Error; err != nil {
		t.Fatal(err)
	}
	listed, after := 0, uuid.Nil
	for more := true; more; { // a page ends by its balances too
		n := f.statements(t, func(ctx context.Context) error {
			got, err := f.List(ctx, f.owner, after, wallets, withBalances)
			if last := len(got) - 1; last > 0 && len(got[last].Balances) == 0 {
				got = got[:last] // which is on the next page
			}
			for _, w := range got {
				if listed, after = listed+1, w.ID; len(w.Balances) != tokens {
					t.Errorf("wallet %d has %d balances", listed, len(w.Balances))
				}
			}
			more = err == nil && len(got) > 0 && listed < wallets
			return err
		})
		if n != 2 {
			t.Errorf("List takes %d statements for a page of wallets with %d balances each, want 2", n, tokens)
		}
	}
	if listed != wallets {
		t.Errorf("%d wallets of %d are listed", listed, wallets)
	}
	for _, limit := range []int{1, wallets * tokens} {
		n := f.statements(t, func(ctx context.Context) error {
			got, err := f.Holdings(ctx, f.owner, holding.Cursor{}, limit)
			if len(got) != limit {
				t.Errorf("%d rows of %d", len(got), limit)
			}
			return err
		})
		if n != 1 {
			t.Errorf("Holdings takes %d statements for %d rows, want 1", n, limit)
		}
	}
}
