// Package defi reads what wallets have in protocols beside the tokens that they hold: deposits, debts, stakes, shares
// of pools and rewards.
//
// It promises: all of a reading is of one block, that of the balances which it is read with; an amount is what the
// protocol pays, or asks for, when the position is closed in that block, as the protocol computes it, and never a
// share price times a number of shares; what could not be read is told as missing and is never taken for zero; a
// contract that is not what the setting says harms no other market. A receipt token is named by the position that it
// stands for, so that nothing is counted twice.
//
// Limits: it reads the markets that the setting names, and finds none by itself. It believes what a market's contracts
// say of themselves.
package defi

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// Kind says what a position is.
type Kind string

// The kinds of positions. BORROWED is owed; the others are owned.
const (
	Supplied  Kind = "SUPPLIED"
	Borrowed  Kind = "BORROWED"
	Staked    Kind = "STAKED"
	Liquidity Kind = "LIQUIDITY"
	Claimable Kind = "CLAIMABLE"
	Locked    Kind = "LOCKED"
)

// RateMode says how the rate of a debt moves.
type RateMode string

// The modes of rates; "" of what is not a debt, or of a protocol with a single one.
const (
	Variable RateMode = "VARIABLE"
	Stable   RateMode = "STABLE"
)

// Position is one amount of an asset that a holder has, or owes, in a market. Kind, Mode and Asset name it among those
// of a holder in a market.
type Position struct {
	Kind Kind
	Mode RateMode
	// Asset is the CAIP-19 id of what closing it pays or takes.
	Asset string
	// Amount of it in base units.
	Amount uint256.Int
	// Receipt is the CAIP-19 id of the token that stands for the position in the holder's wallet; "" without one.
	Receipt string
	// YearlyRate is what the protocol pays or takes in a year, not compounded, as a decimal: "0.05" is 5 %. It is ""
	// where the protocol has none.
	YearlyRate string
	// GrowthIndex is what a fixed part of the market has grown to by interest, in a scale of the market's own: two of
	// different blocks tell the growth between them. Zero where the protocol has none.
	GrowthIndex uint256.Int
	// Collateral: it secures the holder's debts.
	Collateral bool
	// Ended: the holder has none of it. One that is worth nothing is not ended.
	Ended bool
	// Block that it was read at; zero in an adapter's reading, whose block all of it has.
	Block block.Block
}

// GrowthIndexText is GrowthIndex in decimal; "" where the protocol has none.
func (p *Position) GrowthIndexText() string {
	if p.GrowthIndex.IsZero() {
		return ""
	}
	return p.GrowthIndex.Dec()
}

// Account is what a lending market says of all that a holder has in it.
type Account struct {
	// Collateral and Debt are in a currency of the market's choice, of which Unit are one.
	Collateral, Debt, Unit uint256.Int
	// Threshold is up to which share of the collateral the debt may be before it is liquidated, as a decimal.
	Threshold string
	// Health is the collateral times the threshold over the debt, as a decimal: below 1 the account can be liquidated.
	// It is "" when the market sees no debt.
	Health string
	// HasDebt: there is a debt, although it may be too small for the market to see it.
	HasDebt bool
	// EMode is the account's efficiency mode, a number of the market's; 0 for none.
	EMode uint64
	// Block that it was read at; zero in an adapter's reading.
	Block block.Block
}

// Reading is what a holder has in a market at a block.
type Reading struct {
	Market
	Positions []Position
	// Account is nil in markets without one, where there are no positions, and when it is missing.
	Account *Account
	// Missing says what could not be read; "" when all was. What was stored of it before holds on.
	Missing string
}

// HasAny reports whether there is a position that has not ended.
func (r *Reading) HasAny() bool {
	return slices.ContainsFunc(r.Positions, func(p Position) bool { return !p.Ended })
}

// Equal reports whether r and o say the same.
func (r Reading) Equal(o Reading) bool {
	sameAccount := r.Account == o.Account || r.Account != nil && o.Account != nil && *r.Account == *o.Account
	return r.Market == o.Market && r.Missing == o.Missing && sameAccount && slices.Equal(r.Positions, o.Positions)
}

// Assets are those of the positions of readings, each once.
func Assets(readings []Reading) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for i := range readings {
			for _, p := range readings[i].Positions {
				if !seen[p.Asset] && !yield(p.Asset) {
					return
				}
				seen[p.Asset] = true
			}
		}
	}
}

// IsReceipt reports whether a token stands for one of the positions of readings.
func IsReceipt(readings []Reading, token string) bool {
	return slices.ContainsFunc(readings, func(r Reading) bool {
		return slices.ContainsFunc(r.Positions, func(p Position) bool { return p.Receipt == token })
	})
}

// maxMissing is about how long what is missing may be, in bytes.
const maxMissing = 300

// take adds a position whose amount is the one word of an answer; without it what is missing, in parts.
func (r *Reading) take(a Answer, p Position, missing ...string) {
	amount := a.word()
	if amount == nil {
		r.miss(strings.Join(missing, ""))
		return
	}
	p.Amount, p.Ended = *amount, amount.IsZero()
	r.Positions = append(r.Positions, p)
}

// miss adds to what is missing, which it keeps short.
func (r *Reading) miss(what string) {
	switch {
	case r.Missing == "":
		r.Missing = what
	case len(r.Missing) < maxMissing:
		r.Missing += ", " + what
	}
}

// Adapter reads the markets of one kind of protocol. It is safe for concurrent use.
type Adapter interface {
	// Read returns what each holder has in a market, in their order. callAll may be called several times; the calls of
	// all markets are made together. Positions that a holder doesn't have may be left out, unless something is
	// Missing: then those that have ended say so, since others hold on.
	Read(m Market, holders []common.Address, callAll CallAll) []Reading
}

// CallAll makes calls at the block of the reading, and returns their answers in the same order.
type CallAll func(calls []Call) []Answer

// Call is a call of a contract.
type Call struct {
	To   common.Address
	Data []byte
	// Weight is about how many times the gas of a token's balanceOf it takes; 0 for 1.
	Weight int
}

// adapters by the name of the protocol in the setting.
var adapters = map[string]Adapter{
	"aave-v3":         aaveV3{},
	"compound-v3":     compoundV3{},
	"erc4626":         erc4626{},
	"staking-rewards": stakingRewards{},
	"steth":           stETH{},
	"sushi-bar":       sushiBar{},
	"uniswap-v2":      uniswapV2{},
	"wsteth":          wstETH{},
}

// protocolRule says which protocols there are, and what was given.
func protocolRule(given string) string {
	return "must be one of " + strings.Join(slices.Sorted(maps.Keys(adapters)), ", ") + ", " + errs.Given(given)
}

// unknown is the reading of holders of a market that could not be read.
func unknown(m Market, holders int, why string) []Reading {
	out := readings(m, holders)
	for i := range out {
		out[i].Missing = why
	}
	return out
}

// readings are those of holders of a market, before anything was read.
func readings(m Market, holders int) []Reading { return slices.Repeat([]Reading{{Market: m}}, holders) }

// erc20 is the CAIP-19 id of a token on the market's chain.
func (m Market) erc20(contract common.Address) string {
	return caip.Asset{Chain: m.Chain, Contract: contract}.String()
}

// self is the CAIP-19 id of the market's contract, where that is a token.
func (m Market) self() string { return m.erc20(m.Contract) }
