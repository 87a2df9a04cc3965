// Package valuation says what holdings are worth.
//
// It promises: amounts and money are integers and decimals throughout; a
// position's value is amount / 10^decimals × price, rounded half to even to
// Scale decimals, and the total is the sum of the values shown; an unknown
// price leaves its position out of the total and says so, and never counts as
// zero; tokens that are not verified are shown and left out.
package valuation

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Currency of every valuation, ISO 4217.
const Currency = "USD"

// Scale is the number of decimals that values are rounded to.
const Scale = 8

// MaxAge of a wallet's balances for a valuation to be called complete.
const MaxAge = 24 * time.Hour

// MaxValue that a position may have; a larger one is most likely a broken
// price and is left out as VALUE_OUT_OF_RANGE.
const MaxValue = "1e30"

// OutOfRange is the reason of a position past MaxValue.
const OutOfRange = "VALUE_OUT_OF_RANGE"

// Holding is one balance and its token's price.
type Holding struct {
	TokenID  string
	Symbol   string
	Decimals uint8
	Verified bool
	// Amount in base units, 0 to 2^256-1.
	Amount *big.Int
	// Price of a whole token as a decimal number; empty with a Reason.
	Price       string
	PriceSource string
	PriceTime   time.Time
	PriceStale  bool
	Reason      string
}

// Wallet says how sound a wallet's holdings are.
type Wallet struct {
	Account string
	// Synced at least once; Failed when the last sync failed.
	Synced, Failed bool
	// SyncedAt is when it last was, if Synced and known.
	SyncedAt time.Time
	// Problem of the last sync in words: why it failed, or what it could not
	// read.
	Problem string
}

// Position is how much of one token all wallets hold together.
type Position struct {
	TokenID     string
	Symbol      string
	Decimals    uint8
	Verified    bool
	Amount      *big.Int
	Price       string
	PriceSource string
	PriceTime   time.Time
	PriceStale  bool
	// Value, or nil with a Reason.
	Value  *apd.Decimal
	Reason string
	// Share of the total, 0 to 1; 0 for one that isn't counted.
	Share float64
}

// Counted reports whether the position is part of the total.
func (p Position) Counted() bool { return p.Value != nil && p.Verified }

// Valuation is the worth of a portfolio at one moment.
type Valuation struct {
	At         time.Time
	Total      *apd.Decimal
	Positions  []Position // the most valuable first, then by token id
	Unpriced   int
	Unverified int
	Wallets    int
	// Unsynced is how many wallets were never synced.
	Unsynced int
	// Unsound is how many wallets' balances are missing or may not be those of At,
	// Unsynced among them, and Outdated how many counted positions have a stale
	// price.
	Unsound, Outdated int
	// Reasons why it isn't complete; none when it is.
	Reasons []string
	// Stale when it is an older one given for want of a new one.
	Stale bool
}

// Complete reports whether nothing was missing or stale.
func (v Valuation) Complete() bool { return len(v.Reasons) == 0 }

// Of values what wallets hold. An error is a malformed amount or price, which
// is the giver's fault.
func Of(wallets []Wallet, holdings []Holding, at time.Time) (Valuation, error) {
	v := Valuation{At: at, Total: new(apd.Decimal), Wallets: len(wallets)}
	for _, w := range wallets {
		switch {
		case !w.Synced:
			v.Unsynced++
			v.Reasons = append(v.Reasons, "wallet "+w.Account+" was never synced")
		case w.Failed:
			v.Reasons = append(v.Reasons, "the last sync of wallet "+w.Account+" failed")
		case w.Problem != "":
			v.Reasons = append(v.Reasons, "the last sync of wallet "+w.Account+" was not whole: "+w.Problem)
		case !w.SyncedAt.IsZero() && at.Sub(w.SyncedAt) > MaxAge:
			v.Reasons = append(v.Reasons, "wallet "+w.Account+" was last synced at "+w.SyncedAt.UTC().Format(
				time.RFC3339))
		}
	}
	v.Unsound = len(v.Reasons)
	positions, err := merge(holdings)
	if err != nil {
		return Valuation{}, err
	}
	for i := range positions {
		if err := price(&positions[i]); err != nil {
			return Valuation{}, err
		}
		v.count(positions[i])
	}
	slices.SortFunc(positions, byValue)
	v.Positions = positions
	return v, v.share()
}

// merge adds up the holdings of each token. They can be of two readings, one
// of which knew no price: the one that did counts.
func merge(holdings []Holding) ([]Position, error) {
	index := map[string]int{}
	var positions []Position
	for _, h := range holdings {
		if h.Amount == nil || h.Amount.Sign() < 0 {
			return nil, fmt.Errorf("holding of %s: no amount, or one below zero", h.TokenID)
		}
		i, seen := index[h.TokenID]
		if !seen {
			index[h.TokenID] = len(positions)
			positions = append(positions, Position{
				TokenID: h.TokenID, Symbol: h.Symbol, Decimals: h.Decimals, Verified: h.Verified,
				Amount: new(big.Int).Set(h.Amount), Price: h.Price, PriceSource: h.PriceSource,
				PriceTime: h.PriceTime, PriceStale: h.PriceStale, Reason: h.Reason,
			})
			continue
		}
		p := &positions[i]
		p.Amount.Add(p.Amount, h.Amount)
		if p.Price == "" && h.Price != "" {
			p.Price, p.PriceSource, p.PriceTime, p.PriceStale, p.Reason = h.Price, h.PriceSource, h.PriceTime,
				h.PriceStale, ""
		}
	}
	return positions, nil
}

// price fills in the value of a position.
func price(p *Position) error {
	if p.Price == "" {
		p.Reason = cmp.Or(p.Reason, "NO_PRICE")
		return nil
	}
	unit, cond, err := apd.NewFromString(p.Price)
	if err != nil || cond.Any() || unit.Form != apd.Finite || unit.Sign() < 0 {
		return fmt.Errorf("price %q of %s", p.Price, p.TokenID)
	}
	// The product of two integers, exactly; the point is put in after.
	coeff := new(apd.BigInt).SetMathBigInt(p.Amount)
	coeff.Mul(coeff, &unit.Coeff)
	exact := apd.NewWithBigInt(coeff, unit.Exponent-int32(p.Decimals))
	limit, _, err := apd.NewFromString(MaxValue)
	if err != nil {
		return fmt.Errorf("bound: %w", err)
	}
	if exact.Cmp(limit) >= 0 {
		p.Reason = OutOfRange
		return nil
	}
	value := new(apd.Decimal)
	if _, err := decimals().Quantize(value, exact, -Scale); err != nil {
		return fmt.Errorf("round the value of %s: %w", p.TokenID, err)
	}
	p.Value = value
	return nil
}

// decimals holds values below MaxValue with room for sums of them.
func decimals() *apd.Context {
	c := apd.BaseContext.WithPrecision(80)
	c.Rounding = apd.RoundHalfEven
	c.MinExponent, c.MaxExponent = -2000, 2000
	return c
}

func (v *Valuation) count(p Position) {
	switch {
	case !p.Verified:
		v.Unverified++
		return
	case p.Value == nil:
		v.Unpriced++
		v.Reasons = append(v.Reasons, p.Symbol+" is unpriced: "+p.Reason)
		return
	case p.PriceStale:
		v.Outdated++
		v.Reasons = append(v.Reasons, "the price of "+p.Symbol+" is stale")
	}
	if _, err := decimals().Add(v.Total, v.Total, p.Value); err != nil {
		v.Reasons = append(v.Reasons, p.Symbol+" could not be added")
	}
}

func (v *Valuation) share() error {
	if v.Total.IsZero() {
		return nil
	}
	for i := range v.Positions {
		p := &v.Positions[i]
		if !p.Counted() {
			continue
		}
		ratio := new(apd.Decimal)
		if _, err := decimals().Quo(ratio, p.Value, v.Total); err != nil {
			return fmt.Errorf("share of %s: %w", p.TokenID, err)
		}
		f, err := ratio.Float64()
		if err != nil {
			return fmt.Errorf("share of %s: %w", p.TokenID, err)
		}
		p.Share = f
	}
	return nil
}

func byValue(a, b Position) int {
	switch {
	case a.Counted() && b.Counted():
		if c := b.Value.Cmp(a.Value); c != 0 {
			return c
		}
	case a.Counted():
		return -1
	case b.Counted():
		return 1
	}
	return cmp.Compare(a.TokenID, b.TokenID)
}

// Restore puts a valuation together again from its positions.
func Restore(at time.Time, positions []Position) (Valuation, error) {
	v := Valuation{At: at, Total: new(apd.Decimal), Positions: positions}
	for _, p := range positions {
		v.count(p)
	}
	slices.SortFunc(v.Positions, byValue)
	return v, v.share()
}
