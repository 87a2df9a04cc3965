// Package gains says what was gained by what moved the balances of a user's wallets: it makes the acquisitions,
// disposals and moves of package lots of them, at the values of their hours, and adds up what comes of it.
//
// It promises:
//   - The lots of a wallet add up to what its movements add up to, which is its balance.
//   - What leaves one own wallet and comes to another in one transaction is a move, and nothing is gained by it.
//   - Of a swap the disposal and the acquisition have one value. A fee is counted once.
//   - An unknown value makes every result that contains it unknown, and is reported. Nothing is guessed.
//   - After a late or corrected movement only the later events are recomputed; the result equals a full recomputation.
package gains

import (
	"cmp"
	"fmt"
	"math/big"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// Kind is what a movement is.
type Kind int

// Kinds of movements.
const (
	Transfer Kind = iota + 1
	Fee
	// Adjustment is what no movement explains of the difference between two balances.
	Adjustment
)

// Movement is a change of a wallet's balance of a token.
type Movement struct {
	Wallet string
	// Token is its CAIP-19 id.
	Token string
	Kind  Kind
	In    bool
	// Amount in base units, above 0.
	Amount *big.Int
	// Counterparty is the address on the other side, in lower case, and CounterpartyWallet the own wallet there; empty
	// where there is none.
	Counterparty, CounterpartyWallet string
	// Hash of the transaction; empty where there is none.
	Hash string
	Time time.Time
	// Block, 0 of an import; Index and Log are the places of the transaction and of the event. Row is the id of an
	// import.
	Block      uint64
	Index, Log int32
	Row        string
	// Price of the token at the hour of Time, which all movements of this hour share; nil for one that isn't known.
	Price *Price
}

// transaction names what belongs together: a hash, or the adjustments of a wallet at one block; empty for an import
// without a hash.
func (m *Movement) transaction() string {
	if m.Hash == "" && m.Kind == Adjustment {
		return fmt.Sprintf("%s %d %d", m.Wallet, m.Block, m.Time.UnixMicro())
	}
	return m.Hash
}

// compare orders movements as they happened.
func (m *Movement) compare(o *Movement) int {
	return cmp.Or(m.Time.Compare(o.Time), cmp.Compare(m.Block, o.Block), cmp.Compare(m.Index, o.Index),
		cmp.Compare(m.Log, o.Log), cmp.Compare(m.Wallet, o.Wallet), cmp.Compare(m.Token, o.Token),
		cmp.Compare(m.Row, o.Row))
}

// Reasons why a value isn't known, besides those of prices.
const (
	ReasonRate      = "RATE_UNAVAILABLE"
	ReasonUnmatched = "UNMATCHED_TRANSFER"
)

// Worth says what amounts are worth.
type Worth interface {
	// Of returns what an amount of a token was worth in the hour of a time, in units of 10^-8 of the currency, or why
	// that isn't known.
	Of(token string, at time.Time, amount *big.Int) (value *big.Int, reason string)
}

// Cause is why something was acquired or disposed of.
type Cause int

// Causes, as in the contract.
const (
	Swap Cause = iota + 1
	Income
	Sent
	PaidFee
	Adjusted
	Unmatched
)

// isIncome: it came without a payment.
func (c Cause) isIncome() bool { return c == Income || c == Adjusted }

// Fact is what is known of an event besides what lots needs.
type Fact struct {
	// Token is what moved; the asset may be named by another one.
	Token string
	Hash  string
	Cause Cause
	// Reason why it has no value; empty if it has.
	Reason string
	// income is the value of what came without a payment, fees apart; nil otherwise.
	income *big.Int
}

// Event is one of lots with its facts.
type Event struct {
	lots.Event
	Fact
	order *Movement
}

// same reports whether two events are equal in all that matters.
func (e *Event) same(o *Event) bool {
	equal := func(a, b *big.Int) bool { return a == b || a != nil && b != nil && a.Cmp(b) == 0 }
	if e.ID != o.ID || e.Kind != o.Kind || e.Seq != o.Seq || e.Wallet != o.Wallet || e.To != o.To ||
		!e.Time.Equal(o.Time) || !equal(e.Quantity, o.Quantity) || !equal(e.Value, o.Value) ||
		!equal(e.income, o.income) || e.Token != o.Token || e.Hash != o.Hash || e.Cause != o.Cause ||
		e.Reason != o.Reason || len(e.Picks) != len(o.Picks) {
		return false
	}
	for i, p := range e.Picks {
		if p.Lot != o.Picks[i].Lot || !equal(p.Quantity, o.Picks[i].Quantity) {
			return false
		}
	}
	return true
}

// Assets says which tokens count as one: each token's asset, for those that are not their own.
type Assets map[string]string

// Of returns the asset of a token.
func (a Assets) Of(token string) string {
	if asset, ok := a[token]; ok {
		return asset
	}
	return token
}
