package store

import (
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// Kinds of what verifiers have to hear of.
const (
	revokedSession = "SESSION" // or API key: what a token names as its session
	revokedUser    = "USER"
)

// announcedAtOnce bounds the parameters of a statement.
const announcedAtOnce = 1000

type revocationRow struct {
	Kind    string
	Subject uuid.UUID
}

func (revocationRow) TableName() string { return "revocations" }

// announce tells verifiers that subjects were revoked, once the transaction is
// committed.
func announce(tx *gorm.DB, kind string, subjects ...uuid.UUID) error {
	rows := make([]revocationRow, len(subjects))
	for i, id := range subjects {
		rows[i] = revocationRow{Kind: kind, Subject: id}
	}
	if err := tx.CreateInBatches(rows, announcedAtOnce).Error; err != nil {
		return fmt.Errorf("announce revocation: %w", err)
	}
	return nil
}
