// Package erasure erases what a service has of users who were deleted at auth.
//
// It promises: every deletion of auth's list is carried out, also across crashes and restarts, because the users and
// the cursor in the list are stored in one transaction before anything is erased; nothing is erased of a user whom
// auth has not named as deleted, for the issuer of the tokens that the service accepts; what is being stored for a
// user while they are deleted is erased as well, and nothing is stored for them afterwards, if the transactions that
// create something for an owner call [Guard]; auth is told of a deletion only once nothing is left.
//
// Limits: a deletion that auth has lost, by a restored backup, is found neither in the list nor by [Follower.Sweep].
// What is in caches is invalidated; unreachable copies stay until their TTL.
//
// Source: PostgreSQL documentation, "Advisory Locks".
package erasure

import (
	"context"
	_ "embed" // for Schema
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// Schema is the tables. A service puts it into a migration of its own.
//
//go:embed schema.sql
var Schema string

const (
	// listSize is how many deletions are noted in one transaction, each of which takes a lock.
	listSize = 100
	// sweepSize is how many owners auth is asked about in one call.
	sweepSize = 1000
	// callTimeout bounds a call of auth.
	callTimeout = 10 * time.Second
)

// Data is what a service has of users. Its methods are safe for concurrent use.
type Data interface {
	// Owners returns up to limit ids of users whom it has something of, above after and in order.
	Owners(ctx context.Context, after uuid.UUID, limit int) ([]uuid.UUID, error)
	// EraseSome deletes a bounded number of rows of a user in a transaction, and returns what it invalidates and
	// whether more may be left.
	EraseSome(tx *gorm.DB, owner uuid.UUID) (stale []cache.Invalidation, more bool, err error)
}

// Options of a Follower; all are required.
type Options struct {
	DB     *postgres.DB // with Schema
	Auth   authv1.DeletionServiceClient
	Issuer string // of the tokens that the service accepts
	// AsSelf returns a context for calls with a token of the service's own account.
	AsSelf func(ctx context.Context) (context.Context, error)
	Data   Data
	Log    *slog.Logger
}

// Follower carries out the deletions of auth. It is safe for concurrent use, also by several replicas.
type Follower struct {
	Options
	erased metric.Int64Counter
}

// NewFollower returns a Follower.
func NewFollower(o Options) *Follower {
	// An instrument that can't be made is a no-op one.
	erased, _ := otel.Meter("purser/erasure").Int64Counter("erased_users_total",
		metric.WithDescription("Deleted users whose data was erased."))
	erased.Add(context.Background(), 0)
	return &Follower{Options: o, erased: erased}
}

// Run notes the users who were deleted since the last run, erases what there is of them and of those whom an earlier
// run has not finished, and reports to auth. While auth is unavailable it erases what is noted.
func (f *Follower) Run(ctx context.Context) error {
	listed := f.noteListed(ctx)
	erased := f.eraseNoted(ctx)
	if listed != nil {
		return errors.Join(listed, erased)
	}
	return errors.Join(erased, f.report(ctx))
}

// Sweep asks auth which of all users whom there is something of were deleted, for what Run may have missed: the
// database of the service, or of auth, was restored from a backup.
func (f *Follower) Sweep(ctx context.Context) error {
	for after := uuid.Nil; ; {
		owners, err := f.Data.Owners(ctx, after, sweepSize)
		if err != nil {
			return err
		}
		if len(owners) == 0 {
			break
		}
		after = owners[len(owners)-1]
		deleted, err := f.find(ctx, owners)
		if err != nil {
			return err
		}
		for len(deleted) > 0 {
			n := min(len(deleted), listSize)
			if err := f.noteFound(ctx, deleted[:n]); err != nil {
				return err
			}
			deleted = deleted[n:]
		}
	}
	return f.Run(ctx)
}

// noteListed reads the list of auth from the stored cursor on, and notes who is in it.
func (f *Follower) noteListed(ctx context.Context) error {
	for again := false; ; {
		cursor, err := f.cursor(ctx)
		if err != nil {
			return err
		}
		deleted, next, err := f.list(ctx, cursor)
		if e := errs.As(err); e != nil && e.Reason == "CURSOR_AHEAD" && cursor > 0 && !again {
			again = true // but once: auth would be asked without end where it refuses each cursor
			f.Log.WarnContext(ctx, "auth has not reached the stored cursor of deletions: they are read from the start",
				"cursor", cursor)
			if err := f.move(ctx, cursor, 0, nil); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(deleted) == 0 {
			return nil
		}
		if err := f.move(ctx, cursor, next, deleted); err != nil {
			return err
		}
	}
}

// eraseNoted erases what there is of the users who are noted. A user who fails doesn't keep the others from being
// erased.
func (f *Follower) eraseNoted(ctx context.Context) error {
	var failures []error
	count := 0
	for after := int64(-1); ; {
		pending, err := f.pending(ctx, after)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, p := range pending {
			after = p.Cursor
			done, err := f.erase(ctx, p.OwnerID)
			if err != nil {
				failures = append(failures, fmt.Errorf("erase user %s: %w", p.OwnerID, err))
			}
			if done {
				count++
			}
			if ctx.Err() != nil {
				return errors.Join(append(failures, ctx.Err())...)
			}
		}
		if len(pending) < listSize {
			break
		}
	}
	if count > 0 {
		f.erased.Add(ctx, int64(count))
		f.Log.InfoContext(ctx, "data of deleted users erased", "users", count)
	}
	return errors.Join(failures...)
}

// erase erases what there is of a user, transaction by transaction. It is not done when another replica is at it.
func (f *Follower) erase(ctx context.Context, owner uuid.UUID) (done bool, err error) {
	for more := true; more; {
		err := cache.Change(ctx, f.DB, func(tx *gorm.DB) (stale []cache.Invalidation, err error) {
			more, done = false, false
			var mine []uuid.UUID
			err = tx.Raw(`SELECT owner_id FROM erased_owners WHERE owner_id = ? AND erased_at IS NULL
				FOR UPDATE SKIP LOCKED`, owner).Scan(&mine).Error
			if err != nil || len(mine) == 0 {
				return nil, err
			}
			if stale, more, err = f.Data.EraseSome(tx, owner); err != nil || more {
				return stale, err
			}
			done = true
			return stale, tx.Exec("UPDATE erased_owners SET erased_at = clock_timestamp() WHERE owner_id = ?",
				owner).Error
		})
		if err != nil {
			return false, err
		}
	}
	return done, nil
}
