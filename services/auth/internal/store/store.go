// Package store implements the stores of the domain packages on Postgres, and what is shared for minutes on Redis.
//
// It decides nothing: where a decision depends on stored state, a method locks and reads that, calls the decision
// function and writes what it returns, with its audit events, in one transaction.
package store

import (
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
)

// missing turns gorm's "no row" into errs.NotFound, and adds to any other error what was read.
func missing(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gorm.ErrRecordNotFound):
		return errs.NotFound(what)
	default:
		return fmt.Errorf("read %s: %w", what, err)
	}
}

// clock reads the database's clock, on which replicas agree.
func clock(tx *gorm.DB) (time.Time, error) {
	var now time.Time
	if err := tx.Raw("SELECT clock_timestamp()").Scan(&now).Error; err != nil {
		return now, fmt.Errorf("read the clock: %w", err)
	}
	return now.UTC(), nil
}

// orEmpty returns the text of a nullable column, "" for null.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orZero returns the time of a nullable column, the zero time for null; nullTime is its inverse.
func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
