package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// keysPage is how many endpoints are listed at once.
const keysPage = 500

// ChangeKeys implements webhook.Rewrapper: for a command of an operator. An endpoint is locked, since a rotation at
// the same time moves its secret.
func (s *Alerts) ChangeKeys(ctx context.Context, change func(*webhook.Endpoint) bool) error {
	var owner, id uuid.UUID
	for {
		var rows []endpointRow
		err := s.db.Gorm(ctx).Select("owner_id", "id").Where("(owner_id, id) > (?, ?)", owner, id).
			Order("owner_id, id").Limit(keysPage).Find(&rows).Error
		if err != nil {
			return fmt.Errorf("list endpoints: %w", err)
		}
		for _, r := range rows {
			owner, id = r.OwnerID, r.ID
			if err := s.changeKeys(ctx, owner, id, change); err != nil {
				return err
			}
		}
		if len(rows) < keysPage {
			return nil
		}
	}
}

func (s *Alerts) changeKeys(ctx context.Context, owner, id uuid.UUID, change func(*webhook.Endpoint) bool) error {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		e, err := readEndpoint(tx.Clauses(clause.Locking{Strength: "NO KEY UPDATE"}), owner, id)
		if errs.Is(err, errs.KindNotFound) {
			return nil // it was deleted meanwhile
		}
		if err != nil || !change(&e) {
			return err
		}
		return tx.Exec("UPDATE webhook_endpoints SET wrapped = ?, previous_wrapped = ? WHERE owner_id = ? AND id = ?",
			e.Secret.Key, e.Previous.Key, owner, id).Error
	})
	if err != nil {
		return fmt.Errorf("change the keys of an endpoint: %w", err)
	}
	return nil
}
