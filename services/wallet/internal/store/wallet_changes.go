package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Create implements wallet.Store.
func (s *Wallets) Create(ctx context.Context, w wallet.Wallet, limit int, r *requests.Request) (wallet.Wallet, error) {
	row := toRow(w)
	err := once(ctx, s, w.Owner, r, &row, func(tx *gorm.DB) error {
		if r == nil { // or once has asked
			if err := erasure.Guard(tx, w.Owner); err != nil {
				return err
			}
		}
		return insertWallet(tx, &row, limit)
	})
	if err != nil {
		return wallet.Wallet{}, err
	}
	return fromRow(row)
}

// countLock is the advisory lock of the number of an owner's wallets. Whoever adds one
// holds it until the end of the transaction, so that the count is exact.
const countLock = "SELECT pg_advisory_xact_lock(hashtextextended('purser: wallets of ' || ?::uuid, 0))"

func insertWallet(tx *gorm.DB, row *walletRow, limit int) error {
	if err := tx.Exec(countLock, row.OwnerID).Error; err != nil {
		return fmt.Errorf("lock the number of wallets: %w", err)
	}
	made := tx.Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "owner_id"}, {Name: "account"}}, DoNothing: true,
	}).Create(row)
	if made.Error != nil {
		return fmt.Errorf("create wallet: %w", made.Error)
	}
	if made.RowsAffected == 0 {
		return existing(tx, row)
	}
	var count int64
	if err := tx.Model(&walletRow{}).Where("owner_id = ?", row.OwnerID).Count(&count).Error; err != nil {
		return fmt.Errorf("count wallets: %w", err)
	}
	if count > int64(limit) {
		return errs.Exhausted("TOO_MANY_WALLETS", fmt.Sprintf("you have %d wallets, archived ones included, the most "+
			"that this deployment allows (PURSER_WALLETS_PER_OWNER); delete one before you add another", count-1)).
			With("limit", strconv.Itoa(limit))
	}
	return note(tx, wallet.Created, row.OwnerID, row.ID)
}

// existing is the error of an account that the owner has a wallet of.
func existing(tx *gorm.DB, row *walletRow) error {
	var had walletRow
	err := tx.Where("owner_id = ? AND account = ?", row.OwnerID, row.Account).Take(&had).Error
	if err != nil {
		return fmt.Errorf("read the wallet of an account: %w", err)
	}
	text := "you have a wallet with this account already, " + had.ID.String() + "; GetWallet returns it"
	if had.ArchivedAt != nil {
		text = "you have a wallet with this account already, " + had.ID.String() + ", and it is archived; " +
			"RestoreWallet brings it back"
	}
	return errs.AlreadyExists("WALLET_EXISTS", text).With("wallet_id", had.ID.String()).
		With("archived", strconv.FormatBool(had.ArchivedAt != nil))
}

// Update implements wallet.Store.
func (s *Wallets) Update(ctx context.Context, owner, id uuid.UUID, r *requests.Request,
	change func(*wallet.Wallet) error) (wallet.Wallet, error) {
	var row walletRow
	err := once(ctx, s, owner, r, &row, func(tx *gorm.DB) error {
		var err error
		if row, err = locked(tx, owner, id); err != nil {
			return err
		}
		return update(tx, &row, change)
	})
	if err != nil {
		return wallet.Wallet{}, err
	}
	return fromRow(row)
}

// update stores what change makes of a wallet, whose row is locked.
func update(tx *gorm.DB, row *walletRow, change func(*wallet.Wallet) error) error {
	w, err := fromRow(*row)
	if err != nil {
		return err
	}
	if err := change(&w); errors.Is(err, wallet.ErrUnchanged) {
		return nil
	} else if err != nil {
		return err
	}
	w.Version++
	*row = toRow(w)
	err = tx.Model(&walletRow{}).Where("id = ? AND owner_id = ?", w.ID, w.Owner).Updates(map[string]any{
		"label": w.Label, "version": w.Version, "updated_at": w.UpdatedAt, "archived_at": w.ArchivedAt,
		"proven_at": row.ProvenAt, "proven_by": row.ProvenBy,
	}).Error
	if err != nil {
		return fmt.Errorf("change wallet %s: %w", w.ID, err)
	}
	return note(tx, wallet.Updated, w.Owner, w.ID)
}

// locked returns the wallet, which nobody else changes or deletes until the end of the
// transaction.
func locked(tx *gorm.DB, owner, id uuid.UUID) (row walletRow, err error) {
	err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).
		Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, noWallet(id)
	}
	if err != nil {
		return row, fmt.Errorf("lock wallet %s: %w", id, err)
	}
	return row, nil
}

// Delete implements wallet.Store. Whatever stores something of a wallet holds a lock on
// its row, so that nothing is added while it is counted.
func (s *Wallets) Delete(ctx context.Context, owner, id uuid.UUID, version int64, r *requests.Request) (
	removed wallet.Removed, err error) {
	err = once(ctx, s, owner, r, &removed, func(tx *gorm.DB) error {
		row, err := locked(tx, owner, id)
		if err != nil {
			return err
		}
		if version != 0 && version != row.Version {
			return wallet.Mismatch("", wallet.Wallet{Version: row.Version}.ETag())
		}
		for _, of := range []struct {
			table string
			count *int64
		}{
			{"balance_history", &removed.HistoryBalances},
			{"transactions", &removed.Transactions},
			{"balances", &removed.Balances},
		} {
			done := tx.Exec("DELETE FROM "+of.table+" WHERE wallet_id = ?", id)
			if done.Error != nil {
				return fmt.Errorf("delete %s of wallet %s: %w", of.table, id, done.Error)
			}
			*of.count = done.RowsAffected
		}
		err = tx.Raw(`WITH gone AS (DELETE FROM wallet_history WHERE wallet_id = ? RETURNING hours)
			SELECT coalesce(sum(hours), 0) FROM gone`, id).Scan(&removed.HistoryHours).Error
		if err != nil {
			return fmt.Errorf("delete wallet_history of wallet %s: %w", id, err)
		}
		if err := tx.Delete(&walletRow{}, "id = ? AND owner_id = ?", id, owner).Error; err != nil {
			return fmt.Errorf("delete wallet %s: %w", id, err)
		}
		return note(tx, wallet.Deleted, owner, id)
	})
	if err != nil {
		return wallet.Removed{}, err
	}
	return removed, nil
}
