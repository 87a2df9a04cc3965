// Package migrations holds the schema of the portfolio database (goose).
package migrations

import "embed"

// FS contains the migrations, named NNNNN_<name>.sql. A released migration never
// changes: a later one does.
//
//go:embed *.sql
var FS embed.FS
