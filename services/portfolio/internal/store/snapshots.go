package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Snapshots implements snapshot.Store, portfolio.Snapshots, timeline.Store and
// performance.Store. It is safe for concurrent use.
type Snapshots struct {
	db         *postgres.DB
	caches     *Caches
	partitions *partition.Partitions // nil where the job alone makes them
}

// NewSnapshots returns the snapshots in db.
func NewSnapshots(db *postgres.DB, c *Caches) *Snapshots { return &Snapshots{db: db, caches: c} }

// snapshotRow is a row of the table: gorm reads it by its columns, and
// upsertSnapshots takes it as JSON with the same names.
type snapshotRow struct {
	PortfolioID           uuid.UUID `json:"portfolio_id"`
	Bucket                time.Time `json:"bucket"`
	Membership            int       `json:"membership"`
	SnapshotTime          time.Time `json:"snapshot_time"`
	PriceSeq              int64     `json:"price_seq"`
	Total                 string    `json:"total"`
	Complete              bool      `json:"complete"`
	PositionCount         int       `json:"position_count"`
	IncompleteWalletCount int       `json:"incomplete_wallet_count"`
	UnpricedCount         int       `json:"unpriced_count"`
	StalePriceCount       int       `json:"stale_price_count"`
	Backfilled            bool      `json:"backfilled"`
	Measurable            bool      `json:"measurable"`
	PriceGap              bool      `json:"price_gap"`
	Liabilities           string    `json:"liabilities"`
	Collateral            string    `json:"collateral"`
	NetFlow               *string   `json:"net_flow"`
	// HeldDigest is set by upsertCandidates.
	HeldDigest *uuid.UUID `json:"held_digest"`
	// OutOfDate: Membership is not the one that is valid. It is set by readColumns.
	OutOfDate bool `json:"-" gorm:"->"`
}

// readColumns has what is read of snapshots.
var readColumns = "snapshots.*, snapshots.membership <> " +
	fmt.Sprintf(membershipAt, "snapshots.portfolio_id", "snapshots.bucket") + " AS out_of_date"

func (snapshotRow) TableName() string { return "snapshots" }

func snapshotToRow(portfolioID uuid.UUID, bucket time.Time, v valuation.Valuation, backfilled bool) snapshotRow {
	var flow *string
	if v.Measurable() { // setNetFlows changes it if there is one
		zero := "0"
		flow = &zero
	}
	return snapshotRow{
		PortfolioID: portfolioID, Bucket: bucket.UTC(), Membership: v.Membership,
		Measurable: v.Measurable(), NetFlow: flow,
		// Postgres rounds a finer time in JSON, and truncates one in a parameter.
		SnapshotTime: v.ValuationTime.UTC().Truncate(time.Microsecond),
		Total:        v.Total.Text('f'), Complete: v.Complete(),
		Liabilities: v.Liabilities.Text('f'), Collateral: v.Collateral.Text('f'),
		PositionCount: len(v.Positions), IncompleteWalletCount: min(v.IncompleteWallets, math.MaxInt16),
		UnpricedCount:   min(v.Unpriced, math.MaxInt16),
		StalePriceCount: min(v.StalePrices, math.MaxInt16), Backfilled: backfilled,
	}
}

func snapshotFromRow(r snapshotRow) (snapshot.Snapshot, error) {
	total, err := parseDecimal(r.Total)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	liabilities, err := parseDecimal(r.Liabilities)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	collateral, err := parseDecimal(r.Collateral)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	var flow *apd.Decimal
	if r.NetFlow != nil {
		flow, err = parseDecimal(*r.NetFlow)
	}
	return snapshot.Snapshot{
		Portfolio: r.PortfolioID, Bucket: r.Bucket.UTC(), SnapshotTime: r.SnapshotTime.UTC(), Total: total,
		Liabilities: liabilities, Collateral: collateral, Complete: r.Complete && !r.OutOfDate, OutOfDate: r.OutOfDate,
		Positions: r.PositionCount,
		Unpriced:  r.UnpricedCount, Backfilled: r.Backfilled, NetFlow: flow, PriceGap: r.PriceGap,
	}, err
}

// positionRow is a row of the view.
type positionRow struct {
	TokenID        string
	Symbol         string
	Decimals       int16
	Verified       bool
	Amount         string
	Price          *string
	PriceSource    string
	PriceTime      *time.Time
	PriceStale     bool
	UnpricedReason string
	Protocol       string
	Market         string
	Kind           string
	RateMode       string
	Collateral     bool
}

func (positionRow) TableName() string { return "snapshot_positions" }

// positionFromRow returns a position, which has no value yet.
func positionFromRow(r positionRow) (valuation.Position, error) {
	amount, ok := new(big.Int).SetString(r.Amount, 10)
	if !ok {
		return valuation.Position{}, fmt.Errorf("amount of %s in the database: %q", r.TokenID, r.Amount)
	}
	p := valuation.Position{
		TokenID: r.TokenID, Symbol: r.Symbol, Decimals: uint8(r.Decimals), Verified: r.Verified, Amount: amount,
		Place: valuation.Place{Protocol: r.Protocol, Market: r.Market, Kind: valuation.PositionKind(r.Kind),
			RateMode: r.RateMode, Collateral: r.Collateral},
		Price: valuation.Price{Source: r.PriceSource, Stale: r.PriceStale, UnpricedReason: r.UnpricedReason},
	}
	if r.Price != nil && r.PriceTime != nil {
		p.Price.Amount, p.Price.Time = *r.Price, r.PriceTime.UTC()
	}
	return p, nil
}

func parseDecimal(text string) (*apd.Decimal, error) {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return nil, fmt.Errorf("decimal %q in the database: %w", text, err)
	}
	return d, nil
}

// Complete implements snapshot.Store.
func (s *Snapshots) Complete(ctx context.Context, portfolioID uuid.UUID, bucket time.Time,
	membership int) (*snapshot.Snapshot, error) {
	var rows []snapshotRow
	err := s.db.Gorm(ctx).Select(readColumns).Where("portfolio_id = ? AND bucket = ? AND complete AND membership = ?",
		portfolioID, bucket, membership).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the snapshot of an hour: %w", err)
	}
	if len(rows) == 0 || rows[0].OutOfDate {
		return nil, nil //nolint:nilnil // none is no error
	}
	snap, err := snapshotFromRow(rows[0])
	return &snap, err
}

// List implements snapshot.Store.
func (s *Snapshots) List(ctx context.Context, portfolioID uuid.UUID, before time.Time,
	limit int) ([]snapshot.Snapshot, error) {
	q := s.db.Gorm(ctx).Select(readColumns).Where("portfolio_id = ?", portfolioID).
		Order("bucket DESC").Limit(limit)
	if !before.IsZero() {
		q = q.Where("bucket < ?", before)
	}
	var rows []snapshotRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return snapshotsFromRows(rows)
}

func snapshotsFromRows(rows []snapshotRow) (out []snapshot.Snapshot, err error) {
	out = make([]snapshot.Snapshot, len(rows))
	for i, r := range rows {
		if out[i], err = snapshotFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// LastSnapshot implements portfolio.Snapshots.
func (s *Snapshots) LastSnapshot(ctx context.Context, portfolioID uuid.UUID,
	until time.Time) (valuation.Valuation, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select(readColumns).
		Where("portfolio_id = ? AND bucket <= ? AND snapshot_time <= ?", portfolioID, until, until).
		Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return valuation.Valuation{}, errs.NotFound("snapshot")
	}
	if err != nil {
		return valuation.Valuation{}, fmt.Errorf("read last snapshot: %w", err)
	}
	var rows []positionRow
	err = s.db.Gorm(ctx).Where("portfolio_id = ? AND bucket = ?", portfolioID, row.Bucket).Find(&rows).Error
	if err != nil {
		return valuation.Valuation{}, fmt.Errorf("read positions: %w", err)
	}
	positions := make([]valuation.Position, len(rows))
	for i, r := range rows {
		if positions[i], err = positionFromRow(r); err != nil {
			return valuation.Valuation{}, err
		}
	}
	v, err := (valuation.Assets{At: row.SnapshotTime.UTC(), Positions: positions}).Value()
	if n := row.IncompleteWalletCount; n > 0 {
		v.IncompleteWallets = n
		v.IncompleteReasons = append(v.IncompleteReasons,
			fmt.Sprintf("the balances of %d wallets were missing or may have been out of date", n))
	}
	if row.OutOfDate {
		v.IncompleteReasons = append(v.IncompleteReasons,
			"the wallets of the portfolio changed since the snapshot was taken, or a chain replaced blocks; "+
				"RecomputeSnapshots takes it again")
	}
	return v, err
}
