// Package valuation computes what holdings are worth.
//
// It promises:
//   - Amounts are integers and money is decimals throughout; nothing is a float
//     but a position's share of the assets.
//   - A position's value is amount / 10^decimals × price, rounded half to even to
//     Scale decimals; that of a debt is negative. The total is the sum of these rounded
//     values: assets less liabilities, which can be below 0.
//   - A token in a wallet that a position in a protocol stands for is not counted: the
//     position is.
//   - A position without a price is left out of the total and named as a reason why
//     the valuation is incomplete. It never counts as zero.
//   - Positions of tokens that are not verified are listed, but not counted. A debt in one
//     makes the valuation incomplete.
package valuation

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Currency of every valuation, ISO 4217.
const Currency = "USD"

// Scale is the number of decimals that values are rounded to.
const Scale = 8

// ShareScale is the number of decimals of UnpricedShare.
const ShareScale = 12

// MaxBalanceAge is how old a wallet's balances may be in a complete valuation.
const MaxBalanceAge = 24 * time.Hour

// noNode is how wallet begins its error of a chain that the deployment has no node of.
const noNode = "no node is configured for chain "

// Holding is one wallet's balance of a token, or what it has of one in a protocol, with the token's price.
type Holding struct {
	WalletID string
	TokenID  string
	Symbol   string
	Decimals uint8
	Verified bool
	// Amount in base units, 0 to 2^256-1.
	Amount *big.Int
	Price  Price
	// Account is that of the wallet, CAIP-10; set where holdings of now are read.
	Account string
	Place   Place
	// IsReceipt: a position in a protocol stands for it, and is counted in its place.
	IsReceipt bool
}

// Wallet is how a wallet's balances were read.
type Wallet struct {
	ID      string
	Account string // CAIP-10
	// Gone: the portfolio has the wallet, and its owner doesn't have it any more, or has
	// archived it. Nothing is known of what it holds.
	Gone bool
	// Synced: its balances were read at least once.
	Synced bool
	// SyncTime is when they were last read; zero when that never happened or isn't
	// known.
	SyncTime time.Time
	// SyncFailed: the last sync failed.
	SyncFailed bool
	// SyncError is why the last sync failed, or what it could not read.
	SyncError string
	// Unknown says in words what isn't known of what it has in protocols: of that it has what was last read.
	Unknown []string
}

// Position is how much of one token all wallets have together in a place.
type Position struct {
	TokenID  string
	Symbol   string
	Decimals uint8
	Verified bool
	// Place is where it is; a position that is owed is a debt.
	Place Place
	// Amount in base units, not below 0. The sum over wallets can exceed 2^256-1.
	Amount *big.Int
	Price  Price
	// Value is nil if and only if Price.UnpricedReason is set. That of a debt is negative, or 0.
	Value *apd.Decimal
	// Share of the assets, 0 to 1; 0 for a debt, and for a position that isn't counted.
	Share float64
}

// Counted reports whether the position's value is part of the total.
func (p Position) Counted() bool { return p.Value != nil && p.Verified }

// Valuation is the worth of a portfolio at one moment.
type Valuation struct {
	ValuationTime time.Time
	// Total is Assets less Liabilities, neither of which is below 0.
	Total, Assets, Liabilities *apd.Decimal
	// Collateral is the part of Assets that secures debts, whether there are any or not.
	Collateral *apd.Decimal
	// Positions by value, the largest first, so that debts are last; then those that aren't
	// counted, by token id.
	Positions []Position
	// Receipts are what wallets hold of tokens that positions stand for, by token id: they are in
	// no other figure.
	Receipts []Position
	// Unpriced and Unverified are how many positions are left out of the total.
	Unpriced, Unverified int
	// Wallets is how many wallets were valued, UnsyncedWallets how many of them
	// were never synced.
	Wallets, UnsyncedWallets int
	// FailedWallets is how many wallets' last sync failed, or are gone.
	FailedWallets int
	// UnreadableWallets is how many of the UnsyncedWallets and FailedWallets nobody can read:
	// there is no node of their chain, or they are gone.
	UnreadableWallets int
	// IncompleteWallets is how many wallets' balances are missing or may be out of
	// date, UnsyncedWallets among them.
	IncompleteWallets int
	// StalePrices is how many counted positions have a stale price.
	StalePrices int
	// OldestBalance is when the wallet that was read longest ago was read; zero if none was or
	// it isn't known.
	OldestBalance time.Time
	// IncompleteReasons says in words what was missing or stale; empty for a
	// complete valuation.
	IncompleteReasons []string
	// Stale when it is an older valuation, returned because none could be computed.
	Stale bool
	// Membership is that of Assets.
	Membership int
}

// Complete reports whether no balance and no price was missing or stale.
func (v Valuation) Complete() bool { return len(v.IncompleteReasons) == 0 }

// Measurable reports whether the valuation counts in performance: every wallet was
// read, and no price is missing only because its source was unavailable.
func (v Valuation) Measurable() bool {
	return v.IncompleteWallets == 0 && !slices.ContainsFunc(v.Positions, func(p Position) bool {
		return p.Verified && p.Price.UnpricedReason == ReasonSourceUnavailable
	})
}

// UnpricedShare returns Unpriced divided by the number of verified positions, rounded half to even to ShareScale
// decimals; nil without a verified position.
func (v Valuation) UnpricedShare() *apd.Decimal {
	verified := len(v.Positions) - v.Unverified
	if verified == 0 {
		return nil
	}
	share := new(apd.Decimal) // of counts there is no error
	_, _ = decimalContext().Quo(share, apd.New(int64(v.Unpriced), 0), apd.New(int64(verified), 0))
	_, _ = decimalContext().Quantize(share, share, -ShareScale)
	return share
}

// Compute values what wallets hold. It fails only for a malformed amount or price,
// which is an error of whoever passed it.
func Compute(wallets []Wallet, holdings []Holding, at time.Time) (Valuation, error) {
	a, err := Add(wallets, holdings, at)
	if err != nil {
		return Valuation{}, err
	}
	return a.Value()
}

// checkWallet notes what makes a wallet's balances incomplete, and how old they are.
func (v *Valuation) checkWallet(w Wallet) {
	if w.Synced && !w.SyncTime.IsZero() && (v.OldestBalance.IsZero() || w.SyncTime.Before(v.OldestBalance)) {
		v.OldestBalance = w.SyncTime
	}
	var reason string
	switch {
	case w.Gone:
		v.FailedWallets++
		reason = "wallet " + w.ID + " is in the portfolio, but was deleted or archived"
	case !w.Synced:
		v.UnsyncedWallets++
		reason = "wallet " + w.Account + " was never synced"
	case w.SyncFailed:
		v.FailedWallets++
		reason = "the last sync of wallet " + w.Account + " failed"
	case w.SyncError != "":
		reason = "the last sync of wallet " + w.Account + " was incomplete: " + w.SyncError
	case !w.SyncTime.IsZero() && v.ValuationTime.Sub(w.SyncTime) > MaxBalanceAge:
		reason = "wallet " + w.Account + " was last synced at " + w.SyncTime.UTC().Format(time.RFC3339)
	case len(w.Unknown) == 0:
		return
	}
	if w.Gone || (!w.Synced || w.SyncFailed) && strings.HasPrefix(w.SyncError, noNode) {
		v.UnreadableWallets++
	}
	v.IncompleteWallets++
	if reason != "" {
		v.IncompleteReasons = append(v.IncompleteReasons, reason)
	}
	for _, market := range w.Unknown {
		v.IncompleteReasons = append(v.IncompleteReasons, "of wallet "+w.Account+", "+market)
	}
}

// count adds a position to the total, or to the positions that are left out.
func (v *Valuation) count(c *apd.Context, p *Position) {
	switch {
	case !p.Verified:
		v.Unverified++
		if p.Place.Owed() { // without it the total is more than there is
			v.IncompleteReasons = append(v.IncompleteReasons, "a debt of "+p.Symbol+" in "+p.Place.Protocol+
				" doesn't count: the token isn't verified")
		}
		return
	case p.Value == nil:
		v.Unpriced++
		v.IncompleteReasons = append(v.IncompleteReasons, p.Symbol+" is unpriced: "+p.Price.UnpricedReason)
		return
	case p.Price.Stale:
		v.StalePrices++
		v.IncompleteReasons = append(v.IncompleteReasons, "the price of "+p.Symbol+" is stale")
	}
	_, err := c.Add(v.Total, v.Total, p.Value)
	if err == nil && p.Place.Collateral {
		_, err = c.Add(v.Collateral, v.Collateral, p.Value)
	}
	if err == nil && p.Place.Owed() {
		_, err = c.Sub(v.Liabilities, v.Liabilities, p.Value)
	} else if err == nil {
		_, err = c.Add(v.Assets, v.Assets, p.Value)
	}
	if err != nil {
		v.IncompleteReasons = append(v.IncompleteReasons, p.Symbol+" could not be added to the total")
	}
}

// setShares divides values by the assets, which have the same number of decimals.
func (v *Valuation) setShares() {
	if v.Assets.IsZero() {
		return
	}
	for i := range v.Positions {
		if p := &v.Positions[i]; p.Counted() && !p.Place.Owed() {
			p.Share = quotient(&p.Value.Coeff, &v.Assets.Coeff)
		}
	}
}

// quotient returns a / b as the nearest float.
func quotient(a, b *apd.BigInt) float64 {
	const exact = 1 << 53 // integers up to it are floats, whose quotient is rounded once
	if a.IsInt64() && b.IsInt64() && a.Int64() <= exact && b.Int64() <= exact {
		return float64(a.Int64()) / float64(b.Int64())
	}
	f, _ := new(big.Rat).SetFrac(a.MathBigInt(), b.MathBigInt()).Float64()
	return f
}

// byValue orders positions as Valuation.Positions says.
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
	return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), cmp.Compare(a.Place.Protocol, b.Place.Protocol),
		cmp.Compare(a.Place.Market, b.Place.Market), cmp.Compare(a.Place.Kind, b.Place.Kind),
		cmp.Compare(a.Place.RateMode, b.Place.RateMode), compareBools(a.Place.Collateral, b.Place.Collateral))
}

// compareBools has false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
