#!/usr/bin/env bash
# Software:  gorm.io/gorm v1.31.2 with github.com/glebarez/sqlite v1.11.0
# Expected:  Where("id NOT IN ?", ids) with no ids leaves nothing out, as Where("id IN ?", ids) with none finds none.
#            If an empty list can't be written, it is an error.
# Observed:  it finds no row, changes none and deletes none, without an error. Not(map) with the same empty list finds
#            all rows but those whose column is NULL, and Not("id IN ?", ids) finds none again.
# Cause:     an empty list is written as (NULL), and NOT IN (NULL) is true of no row. Only where gorm builds the
#            condition itself, from a map, it writes IS NOT NULL.
# Care:      "all but those that are busy, known or held" becomes nothing at all when nobody is: a queue that stands
#            still while it is idle, and a total without an exclusion that is zero. Put a value into each such list
#            that no row has, or leave the condition out when it is empty.
# Output:    3 rows, one of them without a name; names is an empty list
#            Where("name IN ?", names) finds 0, Where("name NOT IN ?", names) 0
#            Not("name IN ?", names) finds 0, Not(map[string]any{"name": names}) 2
#            Where("id NOT IN ?", ids) deletes 0 <nil>
#            Where("id NOT IN ?", append(ids, 0)) finds 3
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

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
)

func main() {
	db, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	if err != nil {
		os.Exit(2)
	}
	err = db.Exec("CREATE TABLE jobs AS SELECT 1 AS id, 'a' AS name UNION SELECT 2, 'b' UNION SELECT 3, NULL").Error
	if err != nil {
		os.Exit(2)
	}
	jobs := func() *gorm.DB { return db.Table("jobs") }
	count := func(q *gorm.DB) (n int64) {
		if err := q.Count(&n).Error; err != nil {
			os.Exit(2)
		}
		return n
	}
	var names []string
	var ids []int
	in, notIn := count(jobs().Where("name IN ?", names)), count(jobs().Where("name NOT IN ?", names))
	not, notMap := count(jobs().Not("name IN ?", names)), count(jobs().Not(map[string]any{"name": names}))
	deleted := jobs().Where("id NOT IN ?", ids).Delete(nil)
	one := count(jobs().Where("id NOT IN ?", append(ids, 0)))
	fmt.Println("3 rows, one of them without a name; names is an empty list")
	fmt.Printf("Where(\"name IN ?\", names) finds %d, Where(\"name NOT IN ?\", names) %d\n", in, notIn)
	fmt.Printf("Not(\"name IN ?\", names) finds %d, Not(map[string]any{\"name\": names}) %d\n", not, notMap)
	fmt.Printf("Where(\"id NOT IN ?\", ids) deletes %d %v\n", deleted.RowsAffected, deleted.Error)
	fmt.Printf("Where(\"id NOT IN ?\", append(ids, 0)) finds %d\n", one)
	if in != 0 || notIn != 0 || not != 0 || notMap != 2 || deleted.RowsAffected != 0 || deleted.Error != nil ||
		one != 3 {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
