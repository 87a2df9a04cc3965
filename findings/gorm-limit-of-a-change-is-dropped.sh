#!/usr/bin/env bash
# Software:  gorm.io/gorm v1.31.2 with github.com/glebarez/sqlite v1.11.0
# Expected:  Limit(1) before Update or Delete changes one row, or the database refuses the statement if it knows no
#            LIMIT there: db.Where("state = ?", "due").Order("id").Limit(1).Update("state", "taken") takes one job.
# Observed:  LIMIT, OFFSET and ORDER BY are left out of the statement, and all rows that match are changed or deleted.
#            There is no error, and nothing is logged.
# Cause:     a statement is built of the clauses that its kind names. For UPDATE and DELETE these are SET or FROM, and
#            WHERE; the others stay unused. The driver of MySQL adds ORDER BY and LIMIT; those of Postgres and SQLite
#            don't.
# Care:      a worker that takes one job takes all, and a clean-up in portions deletes everything in one transaction.
#            RowsAffected tells of it, but too late. Select the keys in a subquery that has the LIMIT.
# Output:    Order("id").Limit(1).Update: 3 of 3 rows by UPDATE `jobs` SET `state`="taken" WHERE state = "due"
#            Order("id").Limit(1).Delete: 3 of 3 rows by DELETE FROM `jobs` WHERE state = "due"
#            the LIMIT in a subquery: 1 of 3 rows
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	github.com/glebarez/sqlite v1.11.0
	gorm.io/gorm v1.31.2
)
MOD
cat > main.go <<'GO'
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
)

type job struct {
	ID    uint
	State string
}

func main() {
	db, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	if err != nil {
		panic(err)
	}
	if err := db.AutoMigrate(&job{}); err != nil {
		panic(err)
	}
	if err := db.Create(&[]job{{State: "due"}, {State: "due"}, {State: "due"}}).Error; err != nil {
		panic(err)
	}
	one := func(tx *gorm.DB) *gorm.DB { return tx.Model(&job{}).Where("state = ?", "due").Order("id").Limit(1) }
	// affected is the number of rows that a change concerns, which is undone.
	undo := errors.New("undo")
	affected := func(change func(tx *gorm.DB) *gorm.DB) (n int64) {
		err := db.Transaction(func(tx *gorm.DB) error {
			done := change(tx)
			if done.Error != nil {
				return done.Error
			}
			n = done.RowsAffected
			return undo
		})
		if !errors.Is(err, undo) {
			fmt.Println("error:", err)
			return -1
		}
		return n
	}
	update := func(tx *gorm.DB) *gorm.DB { return one(tx).Update("state", "taken") }
	remove := func(tx *gorm.DB) *gorm.DB { return one(tx).Delete(&job{}) }
	chosen := func(tx *gorm.DB) *gorm.DB {
		return tx.Model(&job{}).Where("id IN (?)", one(db).Select("id")).Update("state", "taken")
	}
	updated, removed, right := affected(update), affected(remove), affected(chosen)
	fmt.Printf("Order(\"id\").Limit(1).Update: %d of 3 rows by %s\n", updated, db.ToSQL(update))
	fmt.Printf("Order(\"id\").Limit(1).Delete: %d of 3 rows by %s\n", removed, db.ToSQL(remove))
	fmt.Printf("the LIMIT in a subquery: %d of 3 rows\n", right)
	if updated != 3 || removed != 3 || right != 1 {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
