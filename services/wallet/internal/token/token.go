// Package token knows the fungible tokens whose balances are read.
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
	// Verified: on the deployment's list.
	Verified bool
}

// Store is where tokens are kept.
type Store interface {
	// ByID returns errs.NotFound for a token that is not known.
	ByID(ctx context.Context, id string) (Token, error)
	// List returns up to limit tokens with ids above after, in order, of one
	// chain or, for 0, of all.
	List(ctx context.Context, chain uint64, after string, limit int) ([]Token, error)
	// Put adds or renews tokens.
	Put(ctx context.Context, tokens []Token) error
}
