package postgres_test

import (
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// A migration that adds a column meets statements that running replicas have prepared,
// each connection by itself. No call notices.
func TestAStatementFromBeforeAMigrationRunsAgain(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	one := open(t, postgres.Options{URL: db.URL, MaxOpenConns: 1})
	read := func(g *gorm.DB) error {
		var rows []map[string]any
		return g.Table("accounts").Find(&rows).Error
	}
	if err := read(one.Gorm(t.Context())); err != nil {
		t.Fatal(err)
	}
	add := func(column string) {
		t.Helper()
		if err := db.Gorm(t.Context()).Exec("ALTER TABLE accounts ADD COLUMN " + column + " text").Error; err != nil {
			t.Fatal(err)
		}
	}
	add("first")
	// The control: database/sql by itself. The driver has forgotten the statement after it.
	query := func() error {
		rows, err := one.SQL().QueryContext(t.Context(), `SELECT * FROM "accounts"`)
		if err != nil {
			return err
		}
		defer rows.Close()
		return rows.Err()
	}
	if err := query(); err == nil || !errs.Is(postgres.Translate(err), errs.KindUnavailable) {
		t.Errorf("without the repetition: %v", err)
	}
	if err := read(one.Gorm(t.Context())); err != nil {
		t.Errorf("after it: %v", err)
	}
	add("another")
	if err := read(one.Gorm(t.Context())); err != nil {
		t.Errorf("outside a transaction: %v", err)
	}
	var all sync.WaitGroup
	many := open(t, postgres.Options{URL: db.URL, MaxOpenConns: 8})
	together := func() {
		for range 8 {
			all.Go(func() {
				if err := read(many.Gorm(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	together()
	add("third")
	together()
	add("second")
	tries := 0
	err := postgres.InTx(t.Context(), one, func(tx *gorm.DB) error { tries++; return read(tx) })
	if err != nil || tries != 2 {
		t.Errorf("in a transaction: %d tries, %v", tries, err)
	}
}
