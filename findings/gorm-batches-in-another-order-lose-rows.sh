#!/usr/bin/env bash
# Software:  gorm.io/gorm v1.31.2 with github.com/glebarez/sqlite v1.11.0
# Expected:  Order("price DESC").FindInBatches brings every row once, in that order, as Find does. If it can't, it
#            answers an error, or puts the rows in the order of their key.
# Observed:  it brings some rows, and leaves others out or brings them twice. There is no error, and RowsAffected
#            counts what it brought.
# Cause:     the key becomes the last column of the order, behind the given ones, but the next batch begins after the
#            key of the last row, as if the rows were in its order. Rows with a smaller key that have not come yet
#            are passed over.
# Care:      a job that values or pays the largest positions first loses some of them. With one batch all is well, and
#            so tests with few rows pass. Use FindInBatches without Order, and keep a page of another order by a
#            condition of your own.
# Output:    without Order: 1 2 3 4 5; 5 rows, error <nil>
#            Order("price DESC"): 2 4 5; 3 rows, error <nil>; Find brings 2 4 1 5 3
#            Order("id DESC"): 5 4 5; 3 rows, error <nil>; Find brings 5 4 3 2 1
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
	"fmt"
	"os"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
)

type position struct {
	ID    uint
	Price int
}

func ids(rows []position) string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.ID))
	}
	return strings.Join(out, " ")
}

func main() {
	db, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	if err != nil {
		panic(err)
	}
	if err := db.AutoMigrate(&position{}); err != nil {
		panic(err)
	}
	if err := db.Create(&[]position{{Price: 3}, {Price: 5}, {Price: 1}, {Price: 4}, {Price: 2}}).Error; err != nil {
		panic(err)
	}
	batches := func(q *gorm.DB) (string, string) {
		var all, batch []position
		done := q.FindInBatches(&batch, 2, func(*gorm.DB, int) error {
			all = append(all, batch...)
			return nil
		})
		return ids(all), fmt.Sprintf("%d rows, error %v", done.RowsAffected, done.Error)
	}
	found := func(q *gorm.DB) string {
		var all []position
		if err := q.Find(&all).Error; err != nil {
			panic(err)
		}
		return ids(all)
	}
	plain, told := batches(db)
	fmt.Printf("without Order: %s; %s\n", plain, told)
	same := plain == "1 2 3 4 5"
	for _, c := range []struct{ order, want string }{{"price DESC", "2 4 5"}, {"id DESC", "5 4 5"}} {
		got, told := batches(db.Order(c.order))
		fmt.Printf("Order(%q): %s; %s; Find brings %s\n", c.order, got, told, found(db.Order(c.order)))
		same = same && got == c.want && told == "3 rows, error <nil>"
	}
	if !same {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
