package postgres_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// A migration that adds a column meets statements that running replicas have
// prepared: a call may have to be repeated, and none fails for good.
func TestAStatementFromBeforeAMigrationMayBeRepeated(t *testing.T) {
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
	err := read(one.Gorm(t.Context()))
	if err == nil || !errs.Is(postgres.Translate(err), errs.KindUnavailable) {
		t.Errorf("outside a transaction: %v", err)
	}
	if err := read(one.Gorm(t.Context())); err != nil {
		t.Errorf("repeated: %v", err)
	}
	add("second")
	tries := 0
	err = postgres.InTx(t.Context(), one, func(tx *gorm.DB) error { tries++; return read(tx) })
	if err != nil || tries != 2 {
		t.Errorf("in a transaction: %d tries, %v", tries, err)
	}
}
