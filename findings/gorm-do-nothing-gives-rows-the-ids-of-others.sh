#!/usr/bin/env bash
# Software:  gorm.io/gorm v1.31.2 with github.com/glebarez/sqlite v1.11.0
# Expected:  Create of several rows with OnConflict{DoNothing: true} sets the ids that the database gave to those that
#            it stored, and leaves the ones that were there already without one, as it does for a single row.
# Observed:  the ids that RETURNING brings are given to the elements of the slice from the first one on. When the first
#            row conflicts, it gets the id of the second, the second that of the third, and the last has none. There is
#            no error, and RowsAffected is right.
# Cause:     rows that were skipped are not among those that come back, and nothing in these says whose they are.
# Care:      rows of another table that are then stored with these ids belong to others. Choose the ids before, or read
#            the rows again by their key; a single row is safe: its id stays 0.
# Output:    stored: a 1, b 4, c 5
#            in the slice: a 4, b 5, c 0; 2 rows affected, error <nil>
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
	"gorm.io/gorm/clause"
)

type wallet struct {
	ID   uint   `gorm:"primaryKey"`
	Name string `gorm:"unique"`
}

func text(rows []wallet) string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.Name, " ", r.ID))
	}
	return strings.Join(out, ", ")
}

func main() {
	db, err := gorm.Open(sqlite.Open(":memory:"), &gorm.Config{})
	if err != nil {
		panic(err)
	}
	if err := db.AutoMigrate(&wallet{}); err != nil {
		panic(err)
	}
	if err := db.Create(&[]wallet{{Name: "a"}, {Name: "z"}}).Error; err != nil {
		panic(err)
	}
	rows := []wallet{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	done := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&rows)
	var stored []wallet
	if err := db.Where("name <> ?", "z").Order("name").Find(&stored).Error; err != nil {
		panic(err)
	}
	fmt.Printf("stored: %s\nin the slice: %s; %d rows affected, error %v\n", text(stored), text(rows),
		done.RowsAffected, done.Error)
	wrong := rows[0].ID != 0 && rows[0].ID != stored[0].ID && rows[1].ID != stored[1].ID
	if !wrong || done.RowsAffected != 2 || done.Error != nil {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
