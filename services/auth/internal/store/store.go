// Package store keeps accounts, sessions and signing keys in Postgres.
package store

import (
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
)

// missing turns gorm's "no row" into errs.NotFound and says what was asked of
// any other error.
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

// clock is the database's, which replicas agree on.
func clock(tx *gorm.DB) (time.Time, error) {
	var now time.Time
	if err := tx.Raw("SELECT clock_timestamp()").Scan(&now).Error; err != nil {
		return now, fmt.Errorf("read the clock: %w", err)
	}
	return now.UTC(), nil
}
