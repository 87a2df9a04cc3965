package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"

	"github.com/purserhq/purser/pkg/errs"
)

// schemaNote is the comment on goose's table: the oldest schema whose programs run on this
// one, and the schema that it was written for. Migrate writes it.
const schemaNote = "for programs of schema %d and newer, as of schema %d"

// CheckSchema returns nil when a program with these migrations can work on the database:
// when all of them are applied, and no others. Migrations that it doesn't know are no
// error when they were applied to a database of this program's schema, because the
// previous release goes on running, and may start again, during a rollout; the Schema is
// then Newer. The database is not changed, and needs no rights but to read goose's table.
//
// errs.Unavailable: SCHEMA_MISSING, SCHEMA_OLDER, SCHEMA_NEWER; the message has the
// versions.
func CheckSchema(ctx context.Context, db *DB, migrations fs.FS) (Schema, error) {
	var s Schema
	p, err := provider(db.sql, migrations)
	if err != nil || p == nil {
		return s, err
	}
	var table sql.NullString
	if err := db.sql.QueryRowContext(ctx, `SELECT to_regclass($1)`, goose.DefaultTablename).Scan(&table); err != nil {
		return s, fmt.Errorf("postgres: schema: %w", err)
	}
	applied := map[int64]bool{}
	if table.Valid {
		if applied, err = appliedVersions(ctx, db); err != nil {
			return s, err
		}
	}
	for version := range applied {
		s.Version = max(s.Version, version)
	}
	for _, source := range p.ListSources() {
		s.Known = max(s.Known, source.Version)
		if !applied[source.Version] {
			s.Pending = append(s.Pending, path.Base(source.Path))
		}
	}
	switch {
	case s.Version == 0:
		return s, errs.Unavailable("SCHEMA_MISSING",
			fmt.Sprintf("the database has no schema, the program needs %d: run migrate up", s.Known))
	case len(s.Pending) > 0:
		return s, errs.Unavailable("SCHEMA_OLDER", fmt.Sprintf(
			"the database has schema %d, the program needs %d and misses %s: run migrate up", s.Version, s.Known,
			s.Pending[0]))
	case s.Newer():
		oldest, _, err := readSchemaNote(ctx, db.sql)
		if err == nil && s.Known < oldest {
			err = errs.Unavailable("SCHEMA_NEWER", fmt.Sprintf(
				"the database has schema %d, for programs of schema %d and newer; this one is of schema %d: "+
					"run a newer program", s.Version, oldest, s.Known))
		}
		return s, err
	}
	return s, nil
}

func appliedVersions(ctx context.Context, db *DB) (map[int64]bool, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT version_id FROM `+goose.DefaultTablename+
		` WHERE is_applied AND version_id > 0`)
	if err != nil {
		return nil, fmt.Errorf("postgres: schema: %w", err)
	}
	defer func() { _ = rows.Close() }()
	applied := map[int64]bool{}
	for rows.Next() {
		var version int64
		if err := rows.Scan(&version); err != nil {
			return nil, fmt.Errorf("postgres: schema: %w", err)
		}
		applied[version] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: schema: %w", err)
	}
	return applied, nil
}

// readSchemaNote returns the numbers of the note. A database without one, which no Migrate
// of this package brought to its schema, is for no other programs than those that know it.
func readSchemaNote(ctx context.Context, pool *sql.DB) (oldest, of int64, err error) {
	var note sql.NullString
	err = pool.QueryRowContext(ctx, `SELECT obj_description(to_regclass($1), 'pg_class')`,
		goose.DefaultTablename).Scan(&note)
	if err != nil {
		return 0, 0, fmt.Errorf("postgres: schema: %w", err)
	}
	if _, err := fmt.Sscanf(note.String, schemaNote, &oldest, &of); err != nil {
		return 1 << 62, 0, nil //nolint:nilerr // no note, or another's
	}
	return oldest, of, nil
}

// noteSchema writes, before migrations are applied, whose programs run on the result:
// those that know the schema as it was before. A migration that was cut off and goes on
// doesn't change the note.
func noteSchema(ctx context.Context, pool *sql.DB, before Schema) error {
	if len(before.Pending) == 0 || before.Newer() {
		return nil
	}
	oldest, of, err := readSchemaNote(ctx, pool)
	if err != nil || of == before.Known && oldest <= before.Version {
		return err
	}
	_, err = pool.ExecContext(ctx, fmt.Sprintf(`COMMENT ON TABLE %s IS '`+schemaNote+`'`, goose.DefaultTablename,
		before.Version, before.Known))
	if err != nil {
		return fmt.Errorf("postgres: migrate: %w", err)
	}
	return nil
}
