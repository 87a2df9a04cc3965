package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Answered implements portfolio.NamedStore.
func (s *Portfolios) Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (p portfolio.Portfolio,
	answered bool, err error) {
	if r == nil {
		return p, false, nil
	}
	answered, err = answers.Earlier(s.db.Gorm(ctx), owner, *r, &p)
	return p, answered, err
}

// lockedCount counts an owner's rows of a table. Whoever adds one holds the advisory lock of it until the end of the
// transaction, so that the count is exact.
func lockedCount(tx *gorm.DB, table string, owner uuid.UUID) (n int64, err error) {
	err = tx.Exec(`SELECT pg_advisory_xact_lock(
		hashtextextended('purser: ' || ?::text || ' of ' || ?::uuid, 0))`, table, owner).Error
	if err != nil {
		return 0, fmt.Errorf("lock the number of %s: %w", table, err)
	}
	if err := tx.Table(table).Where("owner_id = ?", owner).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count %s: %w", table, err)
	}
	return n, nil
}

// Create implements portfolio.NamedStore.
func (s *Portfolios) Create(ctx context.Context, p portfolio.Portfolio, wallets []uuid.UUID, hour time.Time,
	limit int, r *requests.Request) (portfolio.Portfolio, error) {
	err := change(ctx, s, p, r, &p, func(tx *gorm.DB) error {
		if err := erasure.Guard(tx, p.Owner); err != nil {
			return err
		}
		count, err := lockedCount(tx, "portfolios", p.Owner)
		if err != nil {
			return err
		}
		if count >= int64(limit) {
			return errs.Exhausted("TOO_MANY_PORTFOLIOS", fmt.Sprintf("you have %d portfolios, the default one "+
				"included, and this deployment allows %d (PURSER_PORTFOLIOS_PER_OWNER); delete one before you "+
				"add another", count, limit)).With("limit", strconv.Itoa(limit))
		}
		row := portfolioRow{ID: p.ID, OwnerID: p.Owner, Name: p.Name, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
			Version: p.Version}
		first := portfolio.Membership{From: portfolio.Beginning(), Named: true, Empty: true}
		all, last, _ := portfolio.Memberships{first}.Apply(hour, portfolio.Edit{Set: true, Add: wallets}, 0)
		row.LastMembership = last
		if err := portfolio.CheckBounds(all); err != nil {
			return err
		}
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create portfolio: %w", err)
		}
		return insertMemberships(tx, p.ID, all, portfolio.Beginning())
	})
	return p, err
}

// change runs fn, which sets out, in a transaction, once for a request, and ends what is
// cached of the portfolio.
func change[T any](ctx context.Context, s *Portfolios, p portfolio.Portfolio, r *requests.Request, out *T,
	fn func(tx *gorm.DB) error) error {
	return cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		p.Default = true // which it may be
		return s.stale(p), answers.Once(tx, p.Owner, r, out, func() error { return fn(tx) })
	})
}

// List implements portfolio.NamedStore.
func (s *Portfolios) List(ctx context.Context, owner, after uuid.UUID, limit int, at time.Time) ([]portfolio.Member,
	error) {
	var rows []memberRow
	err := s.db.Gorm(ctx).Raw("SELECT p.*, "+memberColumns+currentMembers+
		" WHERE p.owner_id = ? AND p.id > ? ORDER BY p.id LIMIT ?", at.UTC(), owner, after, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list portfolios: %w", err)
	}
	return membersFromRows(rows)
}

// Rename implements portfolio.NamedStore.
func (s *Portfolios) Rename(ctx context.Context, owner, id uuid.UUID, name, etag string, r *requests.Request) (
	p portfolio.Portfolio, err error) {
	err = change(ctx, s, portfolio.Portfolio{Owner: owner, ID: id}, r, &p, func(tx *gorm.DB) error {
		if _, err := lockWithEtag(tx, owner, id, etag); err != nil {
			return err
		}
		err := tx.Exec(`UPDATE portfolios SET name = ?, version = version + 1, updated_at = clock_timestamp()
			WHERE id = ?`, name, id).Error
		if err != nil {
			return fmt.Errorf("rename portfolio: %w", err)
		}
		p, err = readPortfolio(tx, owner, id)
		return err
	})
	return p, err
}

// lockWithEtag is lockPortfolio of one that has this etag, if any is given.
func lockWithEtag(tx *gorm.DB, owner, id uuid.UUID, etag string) (portfolioRow, error) {
	row, err := lockPortfolio(tx, owner, id)
	if err != nil {
		return row, err
	}
	return row, portfolioFromRow(row).CheckEtag(etag)
}

func readPortfolio(tx *gorm.DB, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	var row portfolioRow
	if err := tx.Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error; err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read portfolio: %w", err)
	}
	return portfolioFromRow(row), nil
}

// Delete implements portfolio.NamedStore. Whatever stores a snapshot holds a lock on its
// portfolio, so that none is added while they are counted.
func (s *Portfolios) Delete(ctx context.Context, owner, id uuid.UUID, etag string, r *requests.Request) (
	snapshots int64, err error) {
	err = change(ctx, s, portfolio.Portfolio{Owner: owner, ID: id}, r, &snapshots, func(tx *gorm.DB) error {
		row, err := lockWithEtag(tx, owner, id, etag)
		if err != nil {
			return err
		}
		if row.IsDefault {
			return portfolio.ErrDefault()
		}
		done := tx.Exec("DELETE FROM snapshots WHERE portfolio_id = ?", id)
		if done.Error != nil {
			return fmt.Errorf("delete snapshots: %w", done.Error)
		}
		snapshots = done.RowsAffected
		// What it has besides goes with it.
		if err := tx.Exec("DELETE FROM portfolios WHERE id = ?", id).Error; err != nil {
			return fmt.Errorf("delete portfolio: %w", err)
		}
		return nil
	})
	return snapshots, err
}

// Edit implements portfolio.NamedStore.
func (s *Portfolios) Edit(ctx context.Context, owner, id uuid.UUID, hour time.Time, e portfolio.Edit, etag string,
	r *requests.Request) (p portfolio.Portfolio, err error) {
	err = change(ctx, s, portfolio.Portfolio{Owner: owner, ID: id}, r, &p, func(tx *gorm.DB) error {
		row, err := lockWithEtag(tx, owner, id, etag)
		if err != nil {
			return err
		}
		if row.IsDefault {
			return portfolio.ErrDefault()
		}
		if err := edit(tx, &row, hour, e); err != nil {
			return err
		}
		p, err = readPortfolio(tx, owner, id)
		return err
	})
	return p, err
}

// ListMemberships implements portfolio.NamedStore.
func (s *Portfolios) ListMemberships(ctx context.Context, p portfolio.Portfolio, from time.Time, limit int) (
	portfolio.Memberships, error) {
	var rows []membershipRow
	err := s.db.Gorm(ctx).Raw("SELECT "+memberColumns+` FROM memberships m
		WHERE portfolio_id = @id AND valid_from >= coalesce(
			(SELECT max(valid_from) FROM memberships WHERE portfolio_id = @id AND valid_from <= @from), @from)
		ORDER BY valid_from LIMIT @limit`,
		map[string]any{"id": p.ID, "from": from.UTC(), "limit": limit}).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", err)
	}
	return membershipsFromRows(rows, !p.Default)
}
