package token

import (
	"context"
	"log/slog"
)

// Contract is what a token's contract says of itself.
type Contract struct {
	// Decimals of the contract, when it Says them: EIP-20 leaves it the choice.
	Decimals uint8
	Says     bool
	// WithoutCode: nothing is at its address.
	WithoutCode bool
}

// ContractReader asks contracts; package chain does it over JSON-RPC.
type ContractReader interface {
	// Contracts returns what the contracts of tokens say at the newest block, in the
	// order of the tokens, none of which is native.
	Contracts(ctx context.Context, chain uint64, tokens []Token) ([]Contract, error)
}

// CheckStore keeps what is known of contracts.
type CheckStore interface {
	// PutChecked stores Decimals, Checked and WithoutCode of known tokens.
	PutChecked(ctx context.Context, tokens []Token) error
}

// Checker compares tokens with their contracts. A list may be wrong about the decimals
// of a token, which multiplies every value by a power of ten: the contract is right.
// It is safe for concurrent use.
type Checker struct {
	contracts ContractReader
	store     CheckStore
	log       *slog.Logger
}

// NewChecker returns the rules over a reader and a store.
func NewChecker(r ContractReader, s CheckStore, log *slog.Logger) *Checker {
	return &Checker{contracts: r, store: s, log: log}
}

// Check returns the tokens of a chain with the decimals of their contracts. It asks
// those that were not asked yet. When they can't be asked, the tokens are returned as
// they are, and asked the next time.
func (c *Checker) Check(ctx context.Context, chain uint64, tokens []Token) []Token {
	return c.ask(ctx, chain, tokens, func(t Token) bool { return !t.Checked && !t.WithoutCode })
}

// CheckUnread returns the tokens of a chain after their balances were read, or were
// not where unread says so. A token that was not read may have no contract, and one
// that was read has one.
func (c *Checker) CheckUnread(ctx context.Context, chain uint64, tokens []Token, unread []bool) []Token {
	doubtful := map[string]bool{}
	for i, t := range tokens {
		doubtful[t.ID] = unread[i] != t.WithoutCode
	}
	return c.ask(ctx, chain, tokens, func(t Token) bool { return doubtful[t.ID] })
}

// ask asks the contracts of the tokens that wanted reports, and stores what changed.
func (c *Checker) ask(ctx context.Context, chain uint64, tokens []Token, wanted func(Token) bool) []Token {
	var asked []Token
	var places []int
	for i, t := range tokens {
		if !t.Native && wanted(t) {
			asked, places = append(asked, t), append(places, i)
		}
	}
	if len(asked) == 0 {
		return tokens
	}
	found, err := c.contracts.Contracts(ctx, chain, asked)
	if err != nil || len(found) != len(asked) {
		return tokens // a sync that can't read the chain either says so
	}
	out := append([]Token(nil), tokens...)
	var changed []Token
	for i, t := range asked {
		is := c.compare(ctx, t, found[i])
		if is != t {
			changed = append(changed, is)
		}
		out[places[i]] = is
	}
	if len(changed) > 0 {
		if err := c.store.PutChecked(ctx, changed); err != nil {
			c.log.WarnContext(ctx, "checked tokens could not be stored", "error", err)
			return tokens
		}
	}
	return out
}

// compare returns the token as its contract is, and logs what differs.
func (c *Checker) compare(ctx context.Context, t Token, is Contract) Token {
	if is.WithoutCode {
		if !t.WithoutCode {
			c.log.WarnContext(ctx, "token without a contract", "token", t.ID, "symbol", t.Symbol)
		}
		t.WithoutCode, t.Verified = true, false
		return t
	}
	t.WithoutCode, t.Checked = false, true
	if is.Says && is.Decimals != t.Decimals {
		c.log.WarnContext(ctx, "token with other decimals than listed", "token", t.ID, "symbol", t.Symbol,
			"listed", t.Decimals, "contract", is.Decimals)
		t.Decimals = is.Decimals
	}
	return t
}
