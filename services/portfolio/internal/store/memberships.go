package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// membershipAt is an expression: the number of the membership of a portfolio that is valid
// in an hour, 0 for a portfolio without any. Its two verbs are the columns of the two.
const membershipAt = `coalesce((SELECT m.number FROM memberships m
	WHERE m.portfolio_id = %s AND m.valid_from <= %s ORDER BY m.valid_from DESC LIMIT 1), 0)`

// membershipPeriods reads the memberships of a portfolio, its verb, each with the time at which it ends.
const membershipPeriods = `
	SELECT number, no_wallets, valid_from,
	       coalesce(lead(valid_from) OVER (ORDER BY valid_from), 'infinity') AS valid_until
	FROM memberships WHERE portfolio_id = %s`

type membershipRow struct {
	PortfolioID   uuid.UUID `json:"portfolio_id"`
	ValidFrom     time.Time `json:"valid_from"`
	Number        int       `json:"number"`
	WalletIDs     string    `gorm:"column:wallet_ids" json:"-"` // as JSON
	WalletsDigest string    `json:"wallets_digest"`
	NoWallets     bool      `json:"no_wallets"`
}

// memberColumns are those of a membershipRow.
const memberColumns = "m.portfolio_id, m.valid_from, m.number, to_json(m.wallet_ids)::text AS wallet_ids, " +
	"m.wallets_digest, m.no_wallets"

func (r membershipRow) membership(named bool) (portfolio.Membership, error) {
	m := portfolio.Membership{From: r.ValidFrom.UTC(), Number: r.Number, Named: named, Digest: r.WalletsDigest,
		Empty: r.NoWallets}
	if err := json.Unmarshal([]byte(r.WalletIDs), &m.Wallets); err != nil {
		return m, fmt.Errorf("wallets of membership %d in the database: %w", r.Number, err)
	}
	return m, nil
}

func membershipsFromRows(rows []membershipRow, named bool) (all portfolio.Memberships, err error) {
	for _, r := range rows {
		m, err := r.membership(named)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// namedMembershipRow is a membership of a portfolio that is the default one or not.
type namedMembershipRow struct {
	Row       membershipRow `gorm:"embedded"`
	IsDefault bool
}

// Memberships implements portfolio.MembershipStore.
func (s *Portfolios) Memberships(ctx context.Context, portfolioID uuid.UUID, first, last time.Time) (
	all portfolio.Memberships, err error) {
	var rows []namedMembershipRow
	err = s.db.Gorm(ctx).Raw(`
		SELECT `+memberColumns+`, p.is_default
		FROM memberships m JOIN portfolios p ON p.id = m.portfolio_id
		WHERE m.portfolio_id = @id AND m.valid_from <= @last AND m.valid_from >= coalesce(
			(SELECT max(valid_from) FROM memberships WHERE portfolio_id = @id AND valid_from <= @first), @first)
		ORDER BY m.valid_from`,
		map[string]any{"id": portfolioID, "first": first.UTC(), "last": last.UTC()}).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	for _, r := range rows {
		m, err := r.Row.membership(!r.IsDefault)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// memberRow is a portfolio with its membership at a time.
type memberRow struct {
	Portfolio  portfolioRow  `gorm:"embedded"`
	Membership membershipRow `gorm:"embedded"`
}

// currentMembers has the portfolios p with their memberships at the time ?.
const currentMembers = `
	FROM portfolios p CROSS JOIN LATERAL (
		SELECT * FROM memberships WHERE portfolio_id = p.id AND valid_from <= ?
		ORDER BY valid_from DESC LIMIT 1) AS m`

func membersFromRows(rows []memberRow) ([]portfolio.Member, error) {
	members := make([]portfolio.Member, len(rows))
	for i, r := range rows {
		m, err := r.Membership.membership(!r.Portfolio.IsDefault)
		if err != nil {
			return nil, err
		}
		members[i] = portfolio.Member{Portfolio: portfolioFromRow(r.Portfolio), Membership: m}
	}
	return members, nil
}

// MembershipsNow implements portfolio.MembershipStore.
func (s *Portfolios) MembershipsNow(ctx context.Context, owner uuid.UUID, at time.Time) ([]portfolio.Member, error) {
	var rows []memberRow
	err := s.db.Gorm(ctx).Raw("SELECT p.*, "+memberColumns+currentMembers+" WHERE p.owner_id = ? ORDER BY p.id",
		at.UTC(), owner).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read memberships of an owner: %w", err)
	}
	return membersFromRows(rows)
}

// Renew implements portfolio.MembershipStore.
func (s *Portfolios) Renew(ctx context.Context, p portfolio.Portfolio, old portfolio.Membership, digest string,
	empty bool) (m portfolio.Membership, err error) {
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		row, err := lockPortfolio(tx, p.Owner, p.ID)
		if err != nil {
			return nil, err
		}
		if m, err = readMembership(tx, p, portfolio.Beginning()); err != nil || m.Digest == digest {
			return nil, err
		}
		if m.Number != old.Number || m.Digest != old.Digest { // whose wallets are newer, or older, isn't known
			m.Number = portfolio.NoNumber
			return nil, nil
		}
		known := m.Digest != ""
		if known {
			row.LastMembership++
			m.Number = row.LastMembership
		}
		m.Digest, m.Empty = digest, empty
		err = tx.Exec("UPDATE memberships SET number = ?, wallets_digest = ?, no_wallets = ? WHERE portfolio_id = ?",
			m.Number, digest, empty, p.ID).Error // the portfolio is locked
		if err != nil {
			return nil, fmt.Errorf("renew membership: %w", err)
		}
		if !known {
			return nil, nil
		}
		return s.stale(p), noteRecompute(tx, row, portfolio.Beginning())
	})
	return m, err
}

// Leave implements portfolio.MembershipStore.
func (s *Portfolios) Leave(ctx context.Context, p portfolio.Portfolio, old int, hour time.Time, gone []uuid.UUID) (
	m portfolio.Membership, err error) {
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		row, err := lockPortfolio(tx, p.Owner, p.ID)
		if err != nil {
			return nil, err
		}
		if m, err = readMembership(tx, p, hour); err != nil || m.Number != old {
			return nil, err
		}
		if err := edit(tx, &row, hour, portfolio.Edit{Remove: gone}); err != nil {
			return nil, err
		}
		m, err = readMembership(tx, p, hour)
		return s.stale(p), err
	})
	return m, err
}

func readMembership(tx *gorm.DB, p portfolio.Portfolio, at time.Time) (portfolio.Membership, error) {
	var row membershipRow
	err := tx.Raw("SELECT "+memberColumns+` FROM memberships m WHERE portfolio_id = ? AND valid_from <= ?
		ORDER BY valid_from DESC LIMIT 1`, p.ID, at.UTC()).Scan(&row).Error
	if err != nil {
		return portfolio.Membership{}, fmt.Errorf("read membership: %w", err)
	}
	return row.membership(!p.Default)
}

// lockPortfolio returns the portfolio, of which nobody else changes a membership, or stores
// a snapshot, until the end of the transaction.
func lockPortfolio(tx *gorm.DB, owner, id uuid.UUID) (row portfolioRow, err error) {
	err = tx.Raw("SELECT * FROM portfolios WHERE id = ? AND owner_id = ? FOR NO KEY UPDATE", id, owner).
		Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, noPortfolio(id)
	}
	if err != nil {
		return row, fmt.Errorf("lock portfolio: %w", err)
	}
	return row, nil
}

// edit changes the wallets of a locked portfolio. It sets last_membership and version of
// row too.
func edit(tx *gorm.DB, row *portfolioRow, hour time.Time, e portfolio.Edit) error {
	var rows []membershipRow
	err := tx.Raw("SELECT "+memberColumns+" FROM memberships m WHERE portfolio_id = ? ORDER BY valid_from", row.ID).
		Scan(&rows).Error
	if err != nil {
		return fmt.Errorf("read memberships: %w", err)
	}
	before, err := membershipsFromRows(rows, true)
	if err != nil {
		return err
	}
	after, last, from := before.Apply(hour, e, row.LastMembership)
	if from.IsZero() {
		return nil
	}
	if err := portfolio.CheckBounds(after); err != nil {
		return err
	}
	err = tx.Exec("DELETE FROM memberships WHERE portfolio_id = ? AND valid_from >= ?", row.ID, from).Error
	if err != nil {
		return fmt.Errorf("delete memberships: %w", err)
	}
	if err := insertMemberships(tx, row.ID, after, from); err != nil {
		return err
	}
	row.LastMembership = last
	row.Version++
	return noteRecompute(tx, *row, from)
}

// insertMemberships stores memberships from an hour on.
func insertMemberships(tx *gorm.DB, id uuid.UUID, all portfolio.Memberships, from time.Time) error {
	type record struct {
		membershipRow
		WalletIDs []uuid.UUID `json:"wallet_ids"`
	}
	records := []record{}
	for _, m := range all {
		if m.From.Before(from) {
			continue
		}
		r := record{membershipRow{PortfolioID: id, ValidFrom: m.From, Number: m.Number, WalletsDigest: m.Digest,
			NoWallets: m.Empty}, m.Wallets}
		if r.WalletIDs == nil {
			r.WalletIDs = []uuid.UUID{}
		}
		records = append(records, r)
	}
	body, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("encode memberships: %w", err)
	}
	// The columns are named: one that a later release has added gets its default.
	err = tx.Exec(`
		INSERT INTO memberships (portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets)
		SELECT portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets
		FROM json_populate_recordset(null::memberships, ?)`, string(body)).Error
	if err != nil {
		return fmt.Errorf("store memberships: %w", err)
	}
	return nil
}

// noteRecompute stores the numbers of row, and that snapshots from an hour on may be out of
// date.
func noteRecompute(tx *gorm.DB, row portfolioRow, from time.Time) error {
	err := tx.Exec(`UPDATE portfolios SET last_membership = ?, version = ?, updated_at = clock_timestamp(),
		recompute_from = least(recompute_from, ?), recompute_at = clock_timestamp() WHERE id = ?`,
		row.LastMembership, row.Version, from.UTC(), row.ID).Error
	if err != nil {
		return fmt.Errorf("note what is out of date: %w", err)
	}
	return nil
}

// stale is what is cached of a portfolio.
func (s *Portfolios) stale(p portfolio.Portfolio) []cache.Invalidation {
	key := portfolioKey(p)
	keys := []string{key}
	if p.Default {
		keys = append(keys, defaultKey(p.Owner))
	}
	stale := []cache.Invalidation{{Cache: s.caches.portfolios, Keys: keys},
		{Cache: s.caches.generations, Keys: []string{key}}}
	if s.valuations != nil {
		stale = append(stale, cache.Invalidation{Cache: s.valuations, Keys: []string{key}})
	}
	return stale
}

// CacheValuations invalidates valuations in c when the membership they were computed from
// changes. Call it before the first use.
func (s *Portfolios) CacheValuations(c *cache.Cache[valuation.Valuation]) { s.valuations = c }
