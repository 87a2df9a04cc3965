package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

type requestRow struct {
	OwnerID     uuid.UUID `gorm:"primaryKey"`
	RequestID   uuid.UUID `gorm:"primaryKey"`
	Method      string
	RequestHash []byte
	Response    []byte
	CreatedAt   time.Time
}

func (requestRow) TableName() string { return "requests" }

// once runs fn, which sets out, in a transaction as change does; unless the owner's
// request r has been answered before: then it sets out to that answer. The request is
// claimed first, so that of two concurrent equal calls the second waits for the first.
// r may be nil.
func once[T any](ctx context.Context, s *Wallets, owner uuid.UUID, r *wallet.Request, out *T,
	fn func(tx *gorm.DB) error) error {
	return s.change(ctx, owner, func(tx *gorm.DB) error {
		if r == nil {
			return fn(tx)
		}
		if err := erasure.Guard(tx, owner); err != nil {
			return err
		}
		if answered, err := claim(tx, owner, *r, out); err != nil || answered {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		body, err := json.Marshal(out)
		if err != nil {
			return fmt.Errorf("encode response: %w", err)
		}
		err = tx.Model(&requestRow{}).Where("owner_id = ? AND request_id = ?", owner, r.ID).
			Update("response", body).Error
		if err != nil {
			return fmt.Errorf("store response: %w", err)
		}
		return nil
	})
}

// claim makes a request the owner's, or reports that it has been answered and sets out
// to the answer.
func claim(tx *gorm.DB, owner uuid.UUID, r wallet.Request, out any) (answered bool, err error) {
	mine := requestRow{OwnerID: owner, RequestID: r.ID, Method: r.Method, RequestHash: r.Hash[:], Response: []byte{},
		CreatedAt: time.Now().UTC()}
	res := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&mine)
	if res.Error != nil {
		return false, fmt.Errorf("claim request: %w", res.Error)
	}
	if res.RowsAffected == 1 {
		return false, nil
	}
	return earlier(tx, owner, r, out)
}

// earlier sets out to the answer to an earlier request with the id of r, and reports
// whether there was one.
func earlier(tx *gorm.DB, owner uuid.UUID, r wallet.Request, out any) (answered bool, err error) {
	var earlier requestRow
	found := tx.Where("owner_id = ? AND request_id = ?", owner, r.ID).Limit(1).Find(&earlier)
	if found.Error != nil {
		return false, fmt.Errorf("read request: %w", found.Error)
	}
	if found.RowsAffected == 0 {
		return false, nil
	}
	if earlier.Method != r.Method || string(earlier.RequestHash) != string(r.Hash[:]) {
		return false, errs.Invalid("request_id", "was used for another request, by "+earlier.Method+"; use a new "+
			"UUID for each request, and the same one only to repeat a call")
	}
	if err := json.Unmarshal(earlier.Response, out); err != nil {
		return false, fmt.Errorf("decode response: %w", err)
	}
	return true, nil
}
