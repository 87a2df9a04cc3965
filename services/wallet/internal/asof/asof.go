// Package asof says what wallets had at a time, from what was read and imported before.
//
// It promises: an amount says what it rests on, a reading at that very time, the last one
// before, or that and the transactions since; an amount that is not known is missing, with
// a reason, and never zero. It reads nothing from a chain.
package asof

import (
	"context"
	"math/big"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Basis of an amount.
type Basis int

// What an amount can rest on.
const (
	None           Basis = iota // it is not available
	Read                        // read at the last block at or before the time
	CarriedForward              // the last that was read or imported before the time
	Moved                       // that, and the transactions since
)

// Reason why an amount is not available.
type Reason string

// The reasons.
const (
	NotRead     Reason = "NOT_READ"    // nothing was read or imported at or before the time
	Implausible Reason = "IMPLAUSIBLE" // the transactions since add up to what can't be
)

// Row is what a wallet had of a token.
type Row struct {
	Wallet uuid.UUID
	Token  *token.Token // nil for a wallet of which nothing was ever read or imported
	Basis
	Amount uint256.Int
	// Block and At are those of the reading, or of the last transaction. Imported: there is no block.
	Block    uint64
	At       time.Time
	Imported bool
	Reason   Reason // "" with a Basis
}

// Record is what is known of a wallet's token up to a time.
type Record struct {
	// Base is the last reading or imported balance; nil without one.
	Base *Point
	// Amount of Base. The zero value without it.
	Amount uint256.Int
	// Exact: Base is of the last block at or before the time.
	Exact bool
	// Moved is what the transactions after Base add up to, and Last the place of the last of them; nil without any.
	Moved *big.Int
	Last  *Point
	// Begins: without a Base, the transactions begin with an imported one, so nothing was there before.
	Begins bool
}

// Point is a place in the history of a wallet: a block, or below zero the place of an import.
type Point struct {
	Block int64
	At    time.Time
}

// Row returns what the record says.
func (r Record) Row() (row Row) {
	switch {
	case r.Base == nil && (r.Last == nil || !r.Begins):
		row.Reason = NotRead
		return row
	case r.Last == nil:
		row.Basis, row.Amount = CarriedForward, r.Amount
		if r.Exact {
			row.Basis = Read
		}
		row.place(*r.Base)
		return row
	}
	sum := new(big.Int).Add(r.Amount.ToBig(), r.Moved)
	amount, overflow := uint256.FromBig(sum)
	if sum.Sign() < 0 || overflow {
		row.Reason = Implausible
		return row
	}
	row.Basis, row.Amount = Moved, *amount
	row.place(*r.Last)
	return row
}

func (r *Row) place(p Point) {
	r.Block, r.At, r.Imported = uint64(max(0, p.Block)), p.At, p.Block < 0
}

// Cursor is the last row of a page.
type Cursor struct {
	Wallet uuid.UUID
	Token  string
}

// CursorOf returns the cursor of a row.
func CursorOf(r Row) Cursor {
	c := Cursor{Wallet: r.Wallet}
	if r.Token != nil {
		c.Token = r.Token.ID
	}
	return c
}

// Query selects rows.
type Query struct {
	Owner  uuid.UUID
	Wallet uuid.UUID // the zero UUID: all of the owner's that are not archived
	At     time.Time
	After  Cursor
	Limit  int
}

// Store has what was read and imported.
type Store interface {
	// BalancesAt returns rows by wallet and token, from one statement, and one more for a
	// single wallet: errs.NotFound if that is not the owner's.
	BalancesAt(ctx context.Context, q Query) ([]Row, error)
}
