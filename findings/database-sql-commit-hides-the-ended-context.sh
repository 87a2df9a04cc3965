#!/usr/bin/env bash
# Software:  database/sql of Go 1.26 (by way of gorm.io/gorm v1.31.2 and github.com/glebarez/sqlite v1.11.0)
# Expected:  when the context of a transaction ends before Commit, Commit returns an error that is context.Canceled or
#            context.DeadlineExceeded, as each statement in the transaction does.
# Observed:  only for a moment. Once the goroutine that watches the context has rolled the transaction back, Commit
#            returns sql.ErrTxDone, "transaction has already been committed or rolled back", which isn't an error of
#            the context, and reads as a mistake of the program. gorm's Transaction returns it unchanged, so a service
#            that sorts errors by kind answers "internal error" to a caller who just went away.
# Cause:     sql.go, Tx.Commit: when the context is done it returns ErrTxDone if the transaction is marked as done, and
#            the error of the context otherwise; Tx.awaitDone marks it.
# Care:      when Commit returns sql.ErrTxDone, look at the context: if it has ended, its error is the cause, and
#            nothing was committed.
# Output:    the context ended just before the commit: 200 of 200 times context canceled, 0 of 200 times sql.ErrTxDone
#            the context ended 20 ms before the commit: 0 of 20 times context canceled, 20 of 20 times sql.ErrTxDone
#            rows committed: 0
# Exit code: 0 while the second line is so; 1 when it isn't any more; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
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
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

// commits makes transactions whose context ends this long before their commit, and counts the two errors.
func commits(db *gorm.DB, n int, before time.Duration) (cancelled, done int) {
	for i := range n {
		ctx, cancel := context.WithCancel(context.Background())
		err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("INSERT INTO t (id) VALUES (?)", i).Error; err != nil {
				return err
			}
			cancel()
			if before > 0 {
				time.Sleep(before)
			}
			return nil
		})
		switch {
		case errors.Is(err, context.Canceled):
			cancelled++
		case errors.Is(err, sql.ErrTxDone):
			done++
		default:
			fail(fmt.Errorf("neither: %w", err))
		}
	}
	return cancelled, done
}

func main() {
	db, err := gorm.Open(sqlite.Open("file.db"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		fail(err)
	}
	if err := db.Exec("CREATE TABLE t (id integer)").Error; err != nil {
		fail(err)
	}
	cancelled, done := commits(db, 200, 0)
	const line = "the context ended %s the commit: %d of %d times context canceled, %d of %d times sql.ErrTxDone\n"
	fmt.Printf(line, "just before", cancelled, 200, done, 200)
	cancelled, done = commits(db, 20, 20*time.Millisecond)
	fmt.Printf(line, "20 ms before", cancelled, 20, done, 20)
	var rows int
	if err := db.Raw("SELECT count(*) FROM t").Scan(&rows).Error; err != nil {
		fail(err)
	}
	fmt.Println("rows committed:", rows)
	if done != 20 || rows != 0 {
		os.Exit(1)
	}
}
GO
GOWORK=off GOFLAGS=-mod=mod go build -o finding . >/dev/null 2>&1 || exit 2
timeout 60 ./finding
