package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

type walletRow struct {
	ID          uuid.UUID `gorm:"primaryKey"`
	OwnerID     uuid.UUID
	Account     string
	Label       string
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
	SyncState   string
	SyncedBlock int64
	SyncedAt    *time.Time
	SyncError   string
	SyncReason  string
	RetryAt     *time.Time
	ArchivedAt  *time.Time
	ProvenAt    *time.Time
	ProvenBy    string
	Balances    []balanceRow `gorm:"foreignKey:WalletID" json:",omitempty"`
	// WithoutBalances is that of wallet.Wallet.
	WithoutBalances bool `gorm:"-" json:",omitempty"`
}

func (walletRow) TableName() string { return "wallets" }

// Wallets implements wallet.Store.
type Wallets struct {
	db     *postgres.DB
	caches *Caches
	// large is held while a list with balances is read, maxLargeLists at a time: each
	// takes some megabytes.
	large chan struct{}
	wake  func() // see WakeAfterCommit
}

// maxLargeLists is how many lists with balances are read at a time.
const maxLargeLists = 2

// NewWallets returns the wallets in db.
func NewWallets(db *postgres.DB, c *Caches) *Wallets {
	return &Wallets{db: db, caches: c, large: make(chan struct{}, maxLargeLists), wake: func() {}}
}

// change runs fn in a transaction, and invalidates the cached pages of the owner's
// wallets.
func (s *Wallets) change(ctx context.Context, owner uuid.UUID, fn func(tx *gorm.DB) error) error {
	defer s.wake()
	return cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		return []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{owner.String()}}}, fn(tx)
	})
}

// noWallet says that the caller has no wallet with this id.
func noWallet(id uuid.UUID) error {
	return errs.NotFound("wallet " + id.String()).ListedBy("WalletService.ListWallets")
}

// ByID implements wallet.Store.
func (s *Wallets) ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error) {
	var row walletRow
	err := s.db.Gorm(ctx).Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return wallet.Wallet{}, noWallet(id)
	}
	if err != nil {
		return wallet.Wallet{}, fmt.Errorf("read wallet: %w", err)
	}
	return fromRow(row)
}

// OwnerOf returns whose wallet it is. errs.NotFound.
func (s *Wallets) OwnerOf(ctx context.Context, id uuid.UUID) (owner uuid.UUID, err error) {
	var row walletRow
	err = s.db.Gorm(ctx).Select("owner_id").Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return owner, noWallet(id)
	}
	if err != nil {
		return owner, fmt.Errorf("read wallet: %w", err)
	}
	return row.OwnerID, nil
}

// List implements wallet.Store with one statement, and one more for the balances of
// all the wallets.
func (s *Wallets) List(ctx context.Context, owner, after uuid.UUID, limit int, l wallet.Listing) (
	[]wallet.Wallet, error) {
	if l.Balances {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	rows, err := s.page(ctx, owner, after, limit, l)
	if err != nil {
		return nil, err
	}
	wallets := make([]wallet.Wallet, len(rows))
	for i, r := range rows {
		if wallets[i], err = fromRow(r); err != nil {
			return nil, err
		}
	}
	return wallets, nil
}

// page returns the rows of List, from the cache or the database.
func (s *Wallets) page(ctx context.Context, owner, after uuid.UUID, limit int, l wallet.Listing) ([]walletRow,
	error) {
	groups := []string{owner.String()}
	if l.Balances { // they contain the names of tokens
		groups = append(groups, tokensGeneration)
	}
	key := func(generation string) string {
		return fmt.Sprintf("%s/%s/%s/%d/%t/%t", owner, generation, after, limit, l.Balances, l.Archived)
	}
	return cache.GetUnder(ctx, s.caches.generations, groups, s.caches.pages, key,
		func(ctx context.Context) ([]walletRow, error) { return s.read(ctx, owner, after, limit, l) })
}

func (s *Wallets) read(ctx context.Context, owner, after uuid.UUID, limit int, l wallet.Listing) ([]walletRow,
	error) {
	q := s.db.Gorm(ctx).Where("owner_id = ? AND id > ?", owner, after).Order("id").Limit(limit)
	if !l.Archived {
		q = q.Where("archived_at IS NULL")
	}
	if l.Balances {
		q = q.Preload("Balances", func(tx *gorm.DB) *gorm.DB {
			return tx.Joins("Token").Where("amount > 0").Order("wallet_id, token_id").
				Limit(wallet.MaxListedBalances + 1)
		})
	}
	var rows []walletRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list wallets: %w", err)
	}
	return withoutCut(rows), nil
}

// withoutCut returns wallets whose balances are all there, and one WithoutBalances
// after them when the limit has cut off balances: the last that were read are of that
// one.
func withoutCut(rows []walletRow) []walletRow {
	count, last := 0, 0
	for i, r := range rows {
		if count += len(r.Balances); len(r.Balances) > 0 {
			last = i
		}
	}
	if count <= wallet.MaxListedBalances {
		return rows
	}
	rows[last].Balances, rows[last].WithoutBalances = nil, true
	return rows[: last+1 : last+1]
}

func toRow(w wallet.Wallet) walletRow {
	r := walletRow{
		ID: w.ID, OwnerID: w.Owner, Account: w.Account.String(), Label: w.Label, Version: w.Version,
		CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		SyncState: string(w.Sync.State), SyncedBlock: int64(w.Sync.Block),
		SyncedAt: w.Sync.At, SyncError: w.Sync.Error, SyncReason: w.Sync.Reason, RetryAt: w.Sync.RetryAt,
		ArchivedAt: w.ArchivedAt,
	}
	if w.Proof != nil {
		r.ProvenAt, r.ProvenBy = &w.Proof.At, string(w.Proof.By)
	}
	return r
}

func fromRow(r walletRow) (wallet.Wallet, error) {
	a, err := caip.ParseAccount(r.Account)
	if err != nil {
		return wallet.Wallet{}, fmt.Errorf("wallet %s in the database: %w", r.ID, err)
	}
	w := wallet.Wallet{
		ID: r.ID, Owner: r.OwnerID, Account: a, Label: r.Label, Version: r.Version,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, WithoutBalances: r.WithoutBalances,
		ArchivedAt: r.ArchivedAt,
		Sync: wallet.Sync{
			State: wallet.SyncState(r.SyncState), Block: uint64(max(0, r.SyncedBlock)),
			At: r.SyncedAt, Error: r.SyncError, Reason: r.SyncReason, RetryAt: r.RetryAt,
		},
	}
	if r.ProvenAt != nil {
		w.Proof = &wallet.Proof{By: wallet.ProofBy(r.ProvenBy), At: *r.ProvenAt}
	}
	for _, br := range r.Balances {
		b, err := balanceFromRow(br)
		if err != nil {
			return wallet.Wallet{}, err
		}
		w.Balances = append(w.Balances, b)
	}
	return w, nil
}
