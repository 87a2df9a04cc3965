package defi

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// Held is what a wallet has in a market, as it was stored.
type Held struct {
	Wallet uuid.UUID
	Reading
}

// Filter selects what is listed. The zero value selects all but what is of archived wallets.
type Filter struct {
	Wallet   uuid.UUID
	Protocol string
}

// Cursor is the last of a page.
type Cursor struct {
	Wallet uuid.UUID
	Market string // as Market.String
}

// Lister has what was stored.
type Lister interface {
	// Positions returns up to limit of what the owner's wallets have, after the cursor, by wallet and market. The
	// error is errs.NotFound for a wallet that the owner doesn't have.
	Positions(ctx context.Context, owner uuid.UUID, f Filter, after Cursor, limit int) ([]Held, error)
}

// CheckProtocol returns an error for a name that is no protocol's; "" is none and no error. It is errs.Invalid about
// field.
func CheckProtocol(field, name string) error {
	if name == "" || adapters[name] != nil {
		return nil
	}
	return errs.Invalid(field, protocolRule(name))
}
