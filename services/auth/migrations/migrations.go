// Package migrations has the schema of the auth database (goose).
package migrations

import "embed"

// FS has the migrations, named NNNNN_subject.sql.
//
//go:embed *.sql
var FS embed.FS
