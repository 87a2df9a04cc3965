package postgres

import (
	"context"
	"fmt"
	"time"
)

// ClockSkew returns a lower bound of how far this process's clock is ahead of the
// database's; negative when it is behind, 0 when the difference is less than the question
// took.
func (d *DB) ClockSkew(ctx context.Context) (time.Duration, error) {
	var at time.Time
	before := time.Now().Round(0) // by the clock, without Go's own reading of time that passes
	if err := d.sql.QueryRowContext(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
		return 0, fmt.Errorf("postgres: clock: %w", err)
	}
	after := time.Now().Round(0)
	switch {
	case at.Before(before):
		return before.Sub(at), nil
	case at.After(after):
		return after.Sub(at), nil
	}
	return 0, nil
}
