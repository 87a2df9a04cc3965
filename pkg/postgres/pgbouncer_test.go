package postgres_test

import (
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestWithPgBouncerNothingIsPrepared(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	db := open(t, postgres.Options{URL: own.URL, PgBouncer: true, MaxOpenConns: 1})
	for range 3 {
		if err := db.Gorm(t.Context()).Exec(`SELECT id FROM accounts WHERE id = ?`, 1).Error; err != nil {
			t.Fatal(err)
		}
	}
	var prepared int64
	if err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM pg_prepared_statements`).Scan(
		&prepared).Error; err != nil || prepared != 0 {
		t.Fatal(prepared, err)
	}
	direct := open(t, postgres.Options{URL: own.URL, MaxOpenConns: 1})
	if err := direct.Gorm(t.Context()).Exec(`SELECT id FROM accounts WHERE id = ?`, 1).Error; err != nil {
		t.Fatal(err)
	}
	if err := direct.Gorm(t.Context()).Raw(`SELECT count(*) FROM pg_prepared_statements`).Scan(
		&prepared).Error; err != nil || prepared == 0 {
		t.Fatal("the control prepares nothing either", prepared, err)
	}
}

func TestWithPgBouncerEachTransactionHasItsTimeouts(t *testing.T) {
	own := testkit.Postgres(t, nil)
	db := open(t, postgres.Options{URL: own.URL, PgBouncer: true, MaxOpenConns: 1,
		StatementTimeout: 300 * time.Millisecond})
	err := postgres.InTx(t.Context(), db, func(tx *gorm.DB) error { return tx.Exec(`SELECT pg_sleep(60)`).Error })
	if err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("a long statement: %v", err)
	}
	var after string
	if err := db.Gorm(t.Context()).Raw(`SHOW statement_timeout`).Scan(&after).Error; err != nil || after != "0" {
		t.Errorf("the next user of the server's connection has %s, %v", after, err)
	}
}
