#!/usr/bin/env bash
# Software:  gorm.io/gorm v1.31.2 with github.com/glebarez/sqlite v1.11.0
# Expected:  Find, Scan and FindInBatches give a slice of rows that is new, so that who keeps the slice of one query,
#            or hands it to another goroutine, keeps its rows when the variable is read into again.
# Observed:  the next query writes its rows into the array of the one before. Slices that were kept have rows of later
#            queries: some rows are lost, others are there twice.
# Cause:     a slice that has room is cut to no rows and filled again, whoever else holds its array. Only a slice
#            without any room gets a new one. FindInBatches reads every batch into the same variable.
# Care:      read each page into a variable of its own, or set it to nil before. In FindInBatches keep slices.Clone of
#            the batch, and wait for whoever works on it before the function returns.
# Output:    rows 1 to 6 in batches of two, each kept: [5 6] [5 6] [5 6]
#            pages of two and one, both kept: [3 2] [3]
#            pages of two and one, read into a variable that was nil: [1 2] [3]
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

type row struct{ ID int }

func text(pages [][]row) string {
	var out []string
	for _, page := range pages {
		var ids []int
		for _, r := range page {
			ids = append(ids, r.ID)
		}
		out = append(out, fmt.Sprint(ids))
	}
	return strings.Join(out, " ")
}

func main() {
	db, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	const create = "CREATE TABLE rows AS SELECT column1 AS id FROM (VALUES (1), (2), (3), (4), (5), (6))"
	if err != nil || db.Exec(create).Error != nil {
		os.Exit(2)
	}
	var batch []row
	var batches [][]row
	err = db.Table("rows").FindInBatches(&batch, 2, func(*gorm.DB, int) error {
		batches = append(batches, batch)
		return nil
	}).Error
	if err != nil {
		os.Exit(2)
	}
	pages := func(afresh bool) (pages [][]row) {
		var page []row
		for _, ids := range [][]int{{1, 2}, {3}} {
			if afresh {
				page = nil
			}
			if err := db.Table("rows").Where("id IN ?", ids).Order("id").Find(&page).Error; err != nil {
				os.Exit(2)
			}
			pages = append(pages, page)
		}
		return pages
	}
	inBatches, same, apart := text(batches), text(pages(false)), text(pages(true))
	fmt.Println("rows 1 to 6 in batches of two, each kept:", inBatches)
	fmt.Println("pages of two and one, both kept:", same)
	fmt.Println("pages of two and one, read into a variable that was nil:", apart)
	if inBatches != "[5 6] [5 6] [5 6]" || same != "[3 2] [3]" || apart != "[1 2] [3]" {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
