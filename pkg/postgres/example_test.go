package postgres_test

import (
	"context"
	"fmt"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// withDatabase runs an example on a database of its own, with a table of accounts.
func withDatabase(example func(ctx context.Context, db *postgres.DB) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, drop, err := testkit.Database(ctx, accounts())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = drop() }()
	if err := example(ctx, db.DB); err != nil {
		fmt.Println(err)
	}
}

// A transaction that reads a value and writes what follows from it is serializable:
// of concurrent ones those that fail for this reason are run again.
func ExampleSerializable() {
	withDatabase(func(ctx context.Context, db *postgres.DB) error {
		if err := db.Gorm(ctx).Exec(`INSERT INTO accounts (id, amount) VALUES (1, 5)`).Error; err != nil {
			return err
		}
		err := postgres.InTx(ctx, db, func(tx *gorm.DB) error {
			var amount int64
			if err := tx.Raw(`SELECT amount FROM accounts WHERE id = 1`).Scan(&amount).Error; err != nil {
				return err
			}
			return tx.Exec(`UPDATE accounts SET amount = ? WHERE id = 1`, 2*amount).Error
		}, postgres.Serializable)
		var amount int64
		db.Gorm(ctx).Raw(`SELECT amount FROM accounts`).Scan(&amount)
		fmt.Println(amount, err)
		return nil
	})
	// Output: 10 <nil>
}

// A report of several statements reads one snapshot of the database.
func ExampleRepeatableRead() {
	withDatabase(func(ctx context.Context, db *postgres.DB) error {
		return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
			var before, after int64
			tx.Table("accounts").Count(&before)
			db.Gorm(ctx).Exec(`INSERT INTO accounts (id) VALUES (1)`) // another transaction
			tx.Table("accounts").Count(&after)
			fmt.Println(before, after, tx.Error)
			return nil
		}, postgres.RepeatableRead, postgres.ReadOnly)
	})
	// Output: 0 0 <nil>
}

// Services migrate by [postgres.Migrations.Command]; this is what it does.
func ExampleMigrate() {
	withDatabase(func(ctx context.Context, db *postgres.DB) error {
		migrations := fstest.MapFS{
			"00001_accounts.sql": accounts().(fstest.MapFS)["00001_accounts.sql"],
			"00002_notes.sql":    migration(`CREATE TABLE notes (text text);`, `DROP TABLE notes;`),
		}
		for _, step := range []func() error{
			func() error { return postgres.Migrate(ctx, db, migrations) },
			func() error { return postgres.Down(ctx, db, migrations) },
		} {
			if err := step(); err != nil {
				return err
			}
			status, err := postgres.Status(ctx, db, migrations)
			if err != nil {
				return err
			}
			fmt.Println(status.Version, status.Pending)
		}
		return nil
	})
	// Output:
	// 2 []
	// 1 [00002_notes.sql]
}

// A database that can't be reached is a temporary error.
func ExampleIsUnavailable() {
	_, err := postgres.Open(context.Background(), postgres.Options{URL: "postgres://u:p@127.0.0.1:1/db"})
	fmt.Println(postgres.IsUnavailable(err))
	// Output: true
}
