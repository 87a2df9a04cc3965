package store

import (
	"math/big"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// What positions in protocols earn or owe in a year at most, in per cent of them, and the least time that it is
// reckoned for: some add it once a day. A change beyond that is money that came or went.
const (
	maxYearlyEarnings = 20
	minEarningTime    = 24 * time.Hour
)

// tokenFlow is what a portfolio has of a token, in a snapshot and in the one before. It has only what counts.
type tokenFlow struct {
	// value is the sum of the values now, before are the positions that it is compared with.
	value  *apd.Decimal
	before []valuation.Position
	// inProtocols: some of it is or was not in wallets.
	inProtocols bool
	// held is what wallets hold, placed what they have in protocols less what they owe, each now less before.
	held, placed *big.Int
	// base is the larger one of the amounts in protocols before and now, owed ones too.
	base     [2]*big.Int
	decimals uint8
	price    string // now; "" if there is none
}

// netFlow is what came in between two snapshots less what went out, at the prices of now. A token whose amount didn't
// change adds nothing, so that the flow is exactly 0; one that is gone or has no price any more counts at its last
// value. What moved between wallets and protocols is none, and nor is what positions in protocols earned or cost: see
// amount. Without sameWallets some joined or left, with what they have in protocols.
func netFlow(now, before []valuation.Position, passed time.Duration, sameWallets bool) (*apd.Decimal, error) {
	tokens := make(map[string]*tokenFlow, len(now))
	of := func(p valuation.Position) *tokenFlow {
		t := tokens[p.TokenID]
		if t == nil {
			t = &tokenFlow{value: new(apd.Decimal), held: new(big.Int), placed: new(big.Int),
				base: [2]*big.Int{new(big.Int), new(big.Int)}, decimals: p.Decimals}
			tokens[p.TokenID] = t
		}
		return t
	}
	for _, p := range now {
		t := of(p)
		if p.Value == nil {
			continue
		}
		// Of two of one token, whose name has changed, the counted one has its price.
		if t.price == "" || p.Verified {
			t.price = p.Price.Amount
		}
		if p.Counted() {
			t.decimals = p.Decimals
			if err := t.add(p, 0); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range before {
		if !p.Counted() {
			continue
		}
		if err := of(p).add(p, 1); err != nil {
			return nil, err
		}
	}
	if sameWallets {
		earned := claimableBefore(before)
		for _, p := range now {
			if more := earned.since(p); more != nil && p.Counted() {
				t := tokens[p.TokenID]
				t.placed.Sub(t.placed, more)
			}
		}
	}
	flow := new(apd.Decimal)
	for _, t := range tokens {
		came, err := t.flow(passed, sameWallets)
		if err != nil {
			return nil, err
		}
		if flow, err = valuation.Sum(flow, came); err != nil {
			return nil, err
		}
	}
	return flow, nil
}

// add adds a position of now, or of before, which is 1.
func (t *tokenFlow) add(p valuation.Position, when int) (err error) {
	amount, to := new(big.Int).Set(p.Signed()), t.held
	if !p.Place.InWallet() {
		to, t.inProtocols = t.placed, true
		if p.Place.Kind != valuation.Claimable {
			t.base[when].Add(t.base[when], p.Amount)
		}
	}
	if when == 1 {
		t.before = append(t.before, p)
		amount.Neg(amount)
	} else {
		t.value, err = valuation.Sum(t.value, p.Value)
	}
	to.Add(to, amount)
	return err
}

// flow returns what came in of the token less what went out, at its price of now.
func (t *tokenFlow) flow(passed time.Duration, sameWallets bool) (*apd.Decimal, error) {
	comparable := t.price != "" && !slices.ContainsFunc(t.before, func(p valuation.Position) bool {
		return p.Decimals != t.decimals
	})
	switch {
	case comparable && t.inProtocols:
		return worthOf(t.amount(passed, sameWallets), t.decimals, t.price)
	case comparable && t.held.Sign() == 0:
		return new(apd.Decimal), nil
	}
	came := t.value
	for _, p := range t.before {
		worth, err := p.Value, error(nil)
		if t.price != "" {
			worth, err = worthOf(p.Signed(), p.Decimals, t.price)
		}
		if err != nil {
			return nil, err
		}
		if came, err = valuation.Subtract(came, worth); err != nil {
			return nil, err
		}
	}
	return came, nil
}

// amount returns how much of a token that is in protocols came in, less what went out. An amount that the protocols
// can have paid or taken in the time that passed is no flow; a larger one is, unless it came out of a wallet.
func (t *tokenFlow) amount(passed time.Duration, sameWallets bool) *big.Int {
	net, earnings := new(big.Int).Add(t.held, t.placed), new(big.Int)
	if sameWallets {
		if earnings.Set(t.base[0]); t.base[1].Cmp(earnings) > 0 {
			earnings.Set(t.base[1])
		}
		const year = 365 * 24 * 3600
		earnings.Mul(earnings, big.NewInt(maxYearlyEarnings*int64(max(passed, minEarningTime)/time.Second)))
		earnings.Quo(earnings, big.NewInt(100*year))
	}
	switch {
	case net.CmpAbs(earnings) <= 0 && net.CmpAbs(t.placed) <= 0:
		return new(big.Int)
	case t.placed.CmpAbs(earnings) <= 0:
		return t.held
	}
	return net
}

// claimables are what can be claimed in places, and the markets that anything is in.
type claimables struct {
	amounts map[claim]*big.Int
	markets map[[2]string]bool
}

type claim struct {
	token string
	place valuation.Place
}

func claimableBefore(before []valuation.Position) claimables {
	c := claimables{amounts: map[claim]*big.Int{}, markets: map[[2]string]bool{}}
	for _, p := range before {
		if p.Place.InWallet() {
			continue
		}
		c.markets[[2]string{p.Place.Protocol, p.Place.Market}] = true
		if p.Place.Kind == valuation.Claimable && p.Counted() {
			c.amounts[claim{p.TokenID, p.Place}] = p.Amount
		}
	}
	return c
}

// since returns what a position to claim has risen by; nil for another, or none. Nobody pays in what is to be claimed.
func (c claimables) since(p valuation.Position) *big.Int {
	if p.Place.Kind != valuation.Claimable || !c.markets[[2]string{p.Place.Protocol, p.Place.Market}] {
		return nil
	}
	more := new(big.Int).Set(p.Amount)
	if was := c.amounts[claim{p.TokenID, p.Place}]; was != nil {
		more.Sub(more, was)
	}
	if more.Sign() <= 0 {
		return nil
	}
	return more
}

// worthOf is valuation.Worth of an amount that may be below 0.
func worthOf(amount *big.Int, decimals uint8, price string) (*apd.Decimal, error) {
	worth, err := valuation.Worth(new(big.Int).Abs(amount), decimals, price)
	if err == nil && amount.Sign() < 0 {
		worth.Neg(worth)
	}
	return worth, err
}
