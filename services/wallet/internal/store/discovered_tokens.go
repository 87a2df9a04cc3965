package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Discovered implements balancesync.DiscoveredLister.
func (s *Wallets) Discovered(ctx context.Context, wallets []uuid.UUID) (map[uuid.UUID][]token.Token, error) {
	out := map[uuid.UUID][]token.Token{}
	if len(wallets) == 0 {
		return out, nil
	}
	var rows []struct {
		WalletID uuid.UUID
		Token    tokenRow `gorm:"embedded"`
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT w.wallet_id, t.*
		FROM (SELECT d.wallet_id, d.token_id,
		             row_number() OVER (PARTITION BY d.wallet_id ORDER BY d.first_block, d.token_id) AS place
		      FROM wallet_tokens d JOIN tokens k ON k.id = d.token_id
		      WHERE d.wallet_id IN ? AND k.discovered AND NOT k.spam) AS w
		JOIN tokens t ON t.id = w.token_id
		WHERE w.place <= ? ORDER BY w.wallet_id, t.id`, wallets, balancesync.MaxDiscovered).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read discovered tokens: %w", err)
	}
	for _, r := range rows {
		t, err := tokenFromRow(r.Token)
		if err != nil {
			return nil, err
		}
		out[r.WalletID] = append(out[r.WalletID], t)
	}
	return out, nil
}
