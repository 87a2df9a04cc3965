// Package answers answers a repeated call with what the first one returned, by the
// request_id that its caller chose. A service that uses it has the table of Schema.
package answers

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
)

// Schema is the table that a service's migrations make.
const Schema = `
CREATE TABLE requests (
    owner_id     uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    method       text        NOT NULL,
    request_hash bytea       NOT NULL, -- SHA-256 of the request's fields
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (owner_id, request_id)
);
`

// Row is a row of the table.
type Row struct {
	OwnerID     uuid.UUID `gorm:"primaryKey"`
	RequestID   uuid.UUID `gorm:"primaryKey"`
	Method      string
	RequestHash []byte
	Response    []byte
	CreatedAt   time.Time
}

// TableName is for gorm.
func (Row) TableName() string { return "requests" }

// Once runs fn, which sets out; unless the owner's request r has been answered before:
// then it sets out to that answer. The request is claimed first, so that of two concurrent
// equal calls the second waits for the first. r may be nil. It calls erasure.Guard unless r
// is nil. A request that was used for something else is errs.Invalid on request_id.
func Once[T any](tx *gorm.DB, owner uuid.UUID, r *requests.Request, out *T, fn func() error) error {
	if r == nil {
		return fn()
	}
	if err := erasure.Guard(tx, owner); err != nil {
		return err
	}
	if answered, err := Claim(tx, owner, *r, out); err != nil || answered {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return Answer(tx, owner, *r, out)
}

// Answer stores out as the answer to a claimed request.
func Answer(tx *gorm.DB, owner uuid.UUID, r requests.Request, out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	err = tx.Model(&Row{}).Where("owner_id = ? AND request_id = ?", owner, r.ID).Update("response", body).Error
	if err != nil {
		return fmt.Errorf("store response: %w", err)
	}
	return nil
}

// Claim makes a request the owner's, or reports that it has been answered and sets out to
// the answer.
func Claim(tx *gorm.DB, owner uuid.UUID, r requests.Request, out any) (answered bool, err error) {
	mine := Row{OwnerID: owner, RequestID: r.ID, Method: r.Method, RequestHash: r.Hash[:], Response: []byte{},
		CreatedAt: time.Now().UTC()}
	res := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&mine)
	if res.Error != nil {
		return false, fmt.Errorf("claim request: %w", res.Error)
	}
	if res.RowsAffected == 1 {
		return false, nil
	}
	return Earlier(tx, owner, r, out)
}

// Earlier sets out to the answer to an earlier request with the id of r, and reports
// whether there was one.
func Earlier(tx *gorm.DB, owner uuid.UUID, r requests.Request, out any) (answered bool, err error) {
	var earlier Row
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
