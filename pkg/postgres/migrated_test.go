package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
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

// A transaction has more statements than a transaction is tried, and each connection has prepared them all.
func TestATransactionFromBeforeAMigrationRunsOnceMorePerConnection(t *testing.T) {
	const statements, connections = 8, 4
	db := testkit.Postgres(t, accounts())
	s := open(t, postgres.Options{URL: db.URL, MaxOpenConns: connections})
	var tries atomic.Int32
	run := func(all *sync.WaitGroup) error {
		return postgres.InTx(t.Context(), s, func(tx *gorm.DB) error {
			tries.Add(1)
			for i := range statements {
				var rows []map[string]any
				if err := tx.Table("accounts").Where(fmt.Sprintf("%d = %[1]d", i)).Find(&rows).Error; err != nil {
					return err
				}
				if i == 0 && all != nil { // all connections are in use
					all.Done()
					all.Wait()
				}
			}
			return nil
		})
	}
	together := func(all *sync.WaitGroup) {
		var callers sync.WaitGroup
		for range connections {
			callers.Go(func() {
				if err := run(all); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
	}
	var all sync.WaitGroup
	all.Add(connections)
	together(&all)
	if err := db.Gorm(t.Context()).Exec("ALTER TABLE accounts ADD COLUMN another text").Error; err != nil {
		t.Fatal(err)
	}
	tries.Store(0)
	for range 2 {
		together(nil)
	}
	if n := tries.Load(); n > 3*connections || n == 2*connections {
		t.Errorf("%d tries of %d transactions on %d connections", n, 2*connections, connections)
	}
}
