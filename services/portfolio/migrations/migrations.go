// Package migrations holds the schema of the portfolio database (goose).
package migrations

import "embed"

// FS has the migrations, named NNNNN_what.sql.
//
//go:embed *.sql
var FS embed.FS
