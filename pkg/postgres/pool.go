package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// pool is gorm's connection pool outside transactions. A statement that fails because a
// migration has changed the columns of its result, see isStalePlan, did nothing: it runs
// again. Each connection has prepared it, and each learns of the change by such an
// error, so it runs at most once more than there are connections. In a transaction InTx
// does this.
type pool struct {
	*sql.DB
	connections int
}

// GetDBConn is for gorm's DB method.
func (p pool) GetDBConn() (*sql.DB, error) { return p.DB, nil }

// QueryContext shadows that of sql.DB. The driver reads the first row before it returns,
// and so the error of a stale plan.
func (p pool) QueryContext(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	for range p.connections + 1 {
		if rows, err = p.DB.QueryContext(ctx, query, args...); !hasStalePlan(err) {
			break
		}
	}
	return rows, err
}

// ExecContext shadows that of sql.DB.
func (p pool) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	for range p.connections + 1 {
		if result, err = p.DB.ExecContext(ctx, query, args...); !hasStalePlan(err) {
			break
		}
	}
	return result, err
}

func hasStalePlan(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && isStalePlan(answer)
}
