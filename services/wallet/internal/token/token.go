// Package token describes the fungible tokens whose balances are read.
package token

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
)

// Token is a fungible token of one chain, or the chain's native coin.
type Token struct {
	// ID is CAIP-19, lower case.
	ID string
	// Chain is the EIP-155 chain id.
	Chain uint64
	// Native coin; Contract is zero then.
	Native   bool
	Contract common.Address
	Symbol   string
	Name     string
	Decimals uint8
	// Verified: on the deployment's token list, and not WithoutCode.
	Verified bool
	// Checked: Decimals are those of the contract, or it has none to say.
	Checked bool
	// WithoutCode: nothing is at the contract's address, any more or yet.
	WithoutCode bool
	// Discovered: it is not on a token list, and was found by a transfer. Only wallets
	// that moved it are read for it.
	Discovered bool
	// Spam: what it says of itself looks like an advertisement.
	Spam bool
}

// Lister lists tokens.
type Lister interface {
	// List returns up to limit tokens that are or were on a token list, with ids above
	// after, in order of their ids, of one chain or, for 0, of all.
	List(ctx context.Context, chain uint64, after string, limit int) ([]Token, error)
}

// Store has the tokens.
type Store interface {
	Lister
	// ByID returns errs.NotFound for a token that is not known.
	ByID(ctx context.Context, id string) (Token, error)
	// Put adds tokens, or updates what is stored under their ids.
	Put(ctx context.Context, tokens []Token) error
	// PutList is Put for the whole token list: tokens that it doesn't have are no
	// longer verified.
	PutList(ctx context.Context, tokens []Token) error
}

// ListAll returns all tokens of a chain, in order of their ids.
func ListAll(ctx context.Context, l Lister, chain uint64) ([]Token, error) {
	const pageSize = 1000
	var all []Token
	after := ""
	for {
		page, err := l.List(ctx, chain, after, pageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
		after = page[len(page)-1].ID
	}
}
