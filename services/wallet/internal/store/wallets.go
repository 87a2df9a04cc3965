package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/erasure"
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
	RetryAt     *time.Time
	Balances    []balanceRow `gorm:"foreignKey:WalletID" json:",omitempty"`
	// WithoutBalances is that of wallet.Wallet.
	WithoutBalances bool `gorm:"-" json:",omitempty"`
}

func (walletRow) TableName() string { return "wallets" }

type requestRow struct {
	OwnerID     uuid.UUID `gorm:"primaryKey"`
	RequestID   uuid.UUID `gorm:"primaryKey"`
	Method      string
	RequestHash []byte
	Response    []byte
	CreatedAt   time.Time
}

func (requestRow) TableName() string { return "requests" }

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

// Create implements wallet.Store. The request is claimed first, so that of two
// concurrent equal calls the second waits for the first and returns its response.
func (s *Wallets) Create(ctx context.Context, w wallet.Wallet, r *wallet.Request) (wallet.Wallet, error) {
	out := w
	err := s.change(ctx, w.Owner, func(tx *gorm.DB) error {
		if err := erasure.Guard(tx, w.Owner); err != nil {
			return err
		}
		row := toRow(w)
		if r != nil {
			seen, err := claim(tx, row, *r)
			if err != nil {
				return err
			}
			if seen != nil {
				out, err = fromRow(*seen)
				return err
			}
		}
		err := tx.Create(&row).Error
		if postgres.IsUniqueViolation(err, "wallets_owner_account_key") {
			return errs.AlreadyExists("WALLET_EXISTS", "you have a wallet with this account already; ListWallets "+
				"lists it")
		}
		if err != nil {
			return fmt.Errorf("create wallet: %w", err)
		}
		return note(tx, wallet.Created, w.Owner, w.ID)
	})
	return out, err
}

// claim stores the response to a request, or returns the stored response of an
// earlier one.
func claim(tx *gorm.DB, row walletRow, r wallet.Request) (*walletRow, error) {
	body, err := json.Marshal(row)
	if err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	mine := requestRow{
		OwnerID: row.OwnerID, RequestID: r.ID, Method: r.Method,
		RequestHash: r.Hash[:], Response: body, CreatedAt: row.CreatedAt,
	}
	res := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&mine)
	if res.Error != nil {
		return nil, fmt.Errorf("claim request: %w", res.Error)
	}
	if res.RowsAffected == 1 {
		return nil, nil //nolint:nilnil // no earlier response, no error
	}
	var earlier requestRow
	if err := tx.Where("owner_id = ? AND request_id = ?", row.OwnerID, r.ID).Take(&earlier).Error; err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if earlier.Method != r.Method || string(earlier.RequestHash) != string(r.Hash[:]) {
		return nil, errs.Invalid("request_id", "was used for a request with another account or label; use a new "+
			"UUID for each "+
			"wallet, and the same one only to repeat a call")
	}
	var seen walletRow
	if err := json.Unmarshal(earlier.Response, &seen); err != nil {
		return nil, fmt.Errorf("decode response: %w", err)
	}
	return &seen, nil
}

// ByID implements wallet.Store.
func (s *Wallets) ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error) {
	var row walletRow
	err := s.db.Gorm(ctx).Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return wallet.Wallet{}, errs.NotFound("wallet")
	}
	if err != nil {
		return wallet.Wallet{}, fmt.Errorf("read wallet: %w", err)
	}
	return fromRow(row)
}

// List implements wallet.Store with one statement, and one more for the balances of
// all the wallets.
func (s *Wallets) List(ctx context.Context, owner, after uuid.UUID, limit int, balances bool) ([]wallet.Wallet,
	error) {
	if balances {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	rows, err := s.page(ctx, owner, after, limit, balances)
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
func (s *Wallets) page(ctx context.Context, owner, after uuid.UUID, limit int, balances bool) ([]walletRow, error) {
	keys := []string{owner.String()}
	if balances { // they contain the names of tokens
		keys = append(keys, tokensGeneration)
	}
	generation, err := s.caches.generation(ctx, keys...)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s%s/%s/%d/%t", owner, generation, after, limit, balances)
	return s.caches.pages.Get(ctx, key, func(ctx context.Context) ([]walletRow, error) {
		return s.read(ctx, owner, after, limit, balances)
	})
}

func (s *Wallets) read(ctx context.Context, owner, after uuid.UUID, limit int, balances bool) ([]walletRow, error) {
	q := s.db.Gorm(ctx).Where("owner_id = ? AND id > ?", owner, after).Order("id").Limit(limit)
	if balances {
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

// SaveLabel implements wallet.Store.
func (s *Wallets) SaveLabel(ctx context.Context, owner uuid.UUID, w wallet.Wallet) error {
	return s.changeOne(ctx, wallet.Updated, owner, w.ID, func(tx *gorm.DB) *gorm.DB {
		return tx.Model(&walletRow{}).
			Where("id = ? AND owner_id = ? AND version = ?", w.ID, owner, w.Version).
			Updates(map[string]any{"label": w.Label, "updated_at": w.UpdatedAt, "version": gorm.Expr("version + 1")})
	})
}

// Delete implements wallet.Store.
func (s *Wallets) Delete(ctx context.Context, owner, id uuid.UUID, version int64) error {
	return s.changeOne(ctx, wallet.Deleted, owner, id, func(tx *gorm.DB) *gorm.DB {
		q := tx.Where("id = ? AND owner_id = ?", id, owner)
		if version != 0 {
			q = q.Where("version = ?", version)
		}
		return q.Delete(&walletRow{})
	})
}

// changeOne runs the statement of fn, and adds the change to the feed. If that changes no row, the error is
// errs.NotFound or errs.Conflict.
func (s *Wallets) changeOne(ctx context.Context, kind string, owner, id uuid.UUID,
	fn func(tx *gorm.DB) *gorm.DB) error {
	err := s.change(ctx, owner, func(tx *gorm.DB) error {
		res := fn(tx)
		if res.Error == nil && res.RowsAffected == 0 {
			return errNoRow
		}
		if res.Error != nil {
			return res.Error
		}
		return note(tx, kind, owner, id)
	})
	if errors.Is(err, errNoRow) {
		w, err := s.ByID(ctx, owner, id)
		if err != nil {
			return err
		}
		return wallet.Mismatch("", w.ETag())
	}
	if err != nil {
		return fmt.Errorf("change wallet %s: %w", id, err)
	}
	return nil
}

// errNoRow rolls back a transaction that changed no row.
var errNoRow = errors.New("no such row")

func toRow(w wallet.Wallet) walletRow {
	return walletRow{
		ID: w.ID, OwnerID: w.Owner, Account: w.Account.String(), Label: w.Label, Version: w.Version,
		CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		SyncState: string(w.Sync.State), SyncedBlock: int64(w.Sync.Block),
		SyncedAt: w.Sync.At, SyncError: w.Sync.Error, RetryAt: w.Sync.RetryAt,
	}
}

func fromRow(r walletRow) (wallet.Wallet, error) {
	a, err := caip.ParseAccount(r.Account)
	if err != nil {
		return wallet.Wallet{}, fmt.Errorf("wallet %s in the database: %w", r.ID, err)
	}
	w := wallet.Wallet{
		ID: r.ID, Owner: r.OwnerID, Account: a, Label: r.Label, Version: r.Version,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, WithoutBalances: r.WithoutBalances,
		Sync: wallet.Sync{
			State: wallet.SyncState(r.SyncState), Block: uint64(max(0, r.SyncedBlock)),
			At: r.SyncedAt, Error: r.SyncError, RetryAt: r.RetryAt,
		},
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
