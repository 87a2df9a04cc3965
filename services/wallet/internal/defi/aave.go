package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// The methods of Aave v3's pool, its addresses provider, its oracle and its stable debt tokens.
var (
	aaveProvider    = selector("ADDRESSES_PROVIDER()")
	aaveReserves    = selector("getReservesList()")
	aaveReserve     = selector("getReserveData(address)")
	aaveIncome      = selector("getReserveNormalizedIncome(address)")
	aaveDebt        = selector("getReserveNormalizedVariableDebt(address)")
	aaveAccount     = selector("getUserAccountData(address)")
	aaveUserConfig  = selector("getUserConfiguration(address)")
	aaveEMode       = selector("getUserEMode(address)")
	aaveOracle      = selector("getPriceOracle()")
	aaveUnit        = selector("BASE_CURRENCY_UNIT()")
	aavePrice       = selector("getAssetPrice(address)")
	aaveStableYield = selector("getUserStableRate(address)")
)

const (
	// maxAaveReserves is how many reserves a pool can have: the bits of a user's configuration are for so many.
	maxAaveReserves = 128
	// aaveReserveWords is the size of getReserveData's answer in Aave 3.0, which later versions kept as a legacy form.
	aaveReserveWords = 15
	// aaveAccountWeight is that of getUserAccountData, which goes through all of an account's reserves.
	aaveAccountWeight = 20
	// rayPlaces and wadPlaces are the decimals of rates and of the health factor, bpsPlaces those of thresholds.
	rayPlaces, wadPlaces, bpsPlaces = 27, 18, 4
)

// aaveV3 reads pools of Aave v3 and of what was copied from it (@aave/core-v3 1.19.3).
//
// Amounts are balanceOf of the aTokens and debt tokens at the block, which contain the interest up to it; their
// Transfer events do not tell it. A reserve's bits in a user's configuration are at getReserveData(asset).id, which
// is not its place in getReservesList after one was dropped; an asset that is not listed answers with zeros. The
// account's figures leave out what is no collateral and are those of its risk alone; in an e-mode they use the
// category's threshold and price. They revert for whoever has an asset whose price is zero: then they are unknown,
// the amounts are not, and the assets without a price are named. A health factor of 2^256-1 says that the market sees
// no debt, not that there is none.
type aaveV3 struct{}

// aaveReserveData is what is used of a reserve.
type aaveReserveData struct {
	asset                    common.Address
	id                       uint
	supplyRate, borrowRate   string
	supplyIndex, borrowIndex uint256.Int // up to the block; zero when unknown
	aToken, stable, variable common.Address
	hasStable, known         bool
	ids                      aaveReserveIDs
}

// aaveReserveIDs are the CAIP-19 ids of a reserve's tokens.
type aaveReserveIDs struct{ asset, aToken, stable, variable string }

// aavePool is a pool that is being read.
type aavePool struct {
	Market
	holders  []common.Address
	callAll  CallAll
	reserves []aaveReserveData
	oracle   common.Address
	unit     *uint256.Int
	out      []Reading
	config   []*uint256.Int // of each holder; nil when it is missing
	account  [][]uint256.Int
	eMode    []*uint256.Int
}

func (aaveV3) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, aaveProvider), call(m.Contract, aaveReserves)})
	provider, isPool := shape[0].address()
	list, isList := shape[1].addresses(maxAaveReserves)
	if !isPool || !isList {
		return unknown(m, len(holders), "the contract answers as no pool of Aave v3 does")
	}
	p := &aavePool{Market: m, holders: holders, callAll: callAll, out: readings(m, len(holders))}
	p.readReserves(provider, list)
	p.readUsers()
	p.readDebts()
	p.readAccounts()
	return p.out
}

// readReserves reads what there is of the pool's reserves.
func (p *aavePool) readReserves(provider common.Address, list []common.Address) {
	calls := []Call{call(provider, aaveOracle)}
	for _, asset := range list {
		calls = append(calls, callFor(p.Contract, aaveReserve, asset), callFor(p.Contract, aaveIncome, asset),
			callFor(p.Contract, aaveDebt, asset))
	}
	answers := p.callAll(calls)
	p.oracle, _ = answers[0].address()
	p.reserves = make([]aaveReserveData, len(list))
	for i, asset := range list {
		r := newAaveReserve(asset, answers[1+3*i])
		r.supplyIndex, r.borrowIndex = answers[2+3*i].index(), answers[3+3*i].index()
		r.ids = aaveReserveIDs{p.erc20(r.asset), p.erc20(r.aToken), p.erc20(r.stable), p.erc20(r.variable)}
		p.reserves[i] = r
	}
}

func newAaveReserve(asset common.Address, a Answer) aaveReserveData {
	r := aaveReserveData{asset: asset}
	w := a.words(aaveReserveWords)
	if w == nil || !w[7].LtUint64(maxAaveReserves) {
		return r
	}
	r.id, r.supplyRate, r.borrowRate = uint(w[7].Uint64()), decimal(&w[2], rayPlaces), decimal(&w[4], rayPlaces)
	var hasAToken, hasVariable bool
	r.aToken, hasAToken = addressOf(&w[8])
	r.stable, r.hasStable = addressOf(&w[9]) // Aave 3.2 has none any more
	r.variable, hasVariable = addressOf(&w[10])
	r.known = hasAToken && hasVariable
	return r
}

// readUsers reads what holders supplied, which of it is collateral, and where they have debts.
func (p *aavePool) readUsers() {
	n := len(p.holders)
	calls := append(ofEach(p.Contract, aaveUserConfig, p.holders), ofEach(p.Contract, aaveEMode, p.holders)...)
	for _, h := range p.holders {
		c := callFor(p.Contract, aaveAccount, h)
		c.Weight = aaveAccountWeight
		calls = append(calls, c)
	}
	calls = append(calls, call(p.oracle, aaveUnit))
	for _, r := range p.reserves {
		if r.known {
			calls = append(calls, ofEach(r.aToken, balanceOf, p.holders)...)
		}
	}
	answers := p.callAll(calls)
	p.config, p.eMode, p.account = make([]*uint256.Int, n), make([]*uint256.Int, n), make([][]uint256.Int, n)
	for i := range p.holders {
		p.config[i], p.eMode[i] = answers[i].word(), answers[n+i].word()
		p.account[i] = answers[2*n+i].words(6)
		if p.config[i] == nil {
			p.out[i].miss("its configuration, without which neither debts nor collateral are known")
		}
	}
	p.unit = answers[3*n].word()
	answers = answers[3*n+1:]
	for _, r := range p.reserves {
		for i := range p.holders {
			if p.config[i] == nil {
				continue
			}
			if !r.known {
				p.out[i].miss("reserve " + r.ids.asset)
				continue
			}
			p.out[i].take(answers[i], Position{Kind: Supplied, Asset: r.ids.asset, Receipt: r.ids.aToken,
				YearlyRate: r.supplyRate, GrowthIndex: r.supplyIndex, Collateral: p.bit(i, 2*r.id+1)},
				"supply of ", r.ids.asset)
		}
		if r.known {
			answers = answers[n:]
		}
	}
}

// bit is one of a holder's configuration.
func (p *aavePool) bit(holder int, n uint) bool {
	c := p.config[holder]
	return c != nil && new(uint256.Int).Rsh(c, n).Uint64()&1 == 1
}

// readDebts reads the debts of the reserves from which holders have borrowed, as their configurations say. That of the
// others is zero: the pool clears the bit with the last of a debt.
func (p *aavePool) readDebts() {
	type debt struct {
		holder int
		aaveReserveData
	}
	var debts []debt
	var calls []Call
	for i, h := range p.holders {
		for _, r := range p.reserves {
			switch {
			case !r.known || p.config[i] == nil:
			case p.bit(i, 2*r.id):
				debts = append(debts, debt{i, r})
				calls = append(calls, callFor(r.variable, balanceOf, h))
				if r.hasStable {
					calls = append(calls, callFor(r.stable, balanceOf, h), callFor(r.stable, aaveStableYield, h))
				}
			default:
				for _, mode := range []RateMode{Variable, Stable} {
					p.out[i].Positions = append(p.out[i].Positions, Position{Kind: Borrowed, Mode: mode,
						Asset: r.ids.asset, Ended: true})
				}
			}
		}
	}
	answers := p.callAll(calls)
	for _, d := range debts {
		owed := Position{Kind: Borrowed, Mode: Variable, Asset: d.ids.asset, YearlyRate: d.borrowRate,
			GrowthIndex: d.borrowIndex, Receipt: d.ids.variable}
		r := &p.out[d.holder]
		r.take(answers[0], owed, "variable debt of ", owed.Asset)
		if answers = answers[1:]; d.hasStable {
			owed.Mode, owed.YearlyRate, owed.Receipt = Stable, "", d.ids.stable
			owed.GrowthIndex = uint256.Int{} // each holder has a rate of their own
			if rate := answers[1].word(); rate != nil {
				owed.YearlyRate = decimal(rate, rayPlaces)
			}
			r.take(answers[0], owed, "stable debt of ", owed.Asset)
			answers = answers[2:]
		}
	}
}

// readAccounts adds the figures of those who have something, and says whose are missing, by which prices.
func (p *aavePool) readAccounts() {
	var without []int
	for i := range p.holders {
		r := &p.out[i]
		switch {
		case !r.HasAny():
		case p.account[i] == nil || p.unit == nil || p.unit.IsZero():
			without = append(without, i)
		default:
			r.Account = p.newAccount(i)
		}
	}
	if len(without) == 0 {
		return
	}
	var calls []Call
	for _, r := range p.reserves {
		calls = append(calls, callFor(p.oracle, aavePrice, r.asset))
	}
	unpriced := map[string]bool{}
	for i, a := range p.callAll(calls) {
		if price := a.word(); price == nil || price.IsZero() {
			unpriced[p.reserves[i].ids.asset] = true
		}
	}
	for _, i := range without {
		r := &p.out[i]
		r.miss("the account's figures")
		told := map[string]bool{}
		for _, position := range r.Positions {
			if unpriced[position.Asset] && !position.Ended && !told[position.Asset] {
				told[position.Asset] = true
				r.miss("the market's price of " + position.Asset)
			}
		}
	}
}

func (p *aavePool) newAccount(i int) *Account {
	w := p.account[i]
	a := &Account{Collateral: w[0], Debt: w[1], Unit: *p.unit, Threshold: decimal(&w[3], bpsPlaces)}
	for _, position := range p.out[i].Positions {
		a.HasDebt = a.HasDebt || position.Kind == Borrowed && !position.Ended
	}
	if noDebtSeen := new(uint256.Int).Not(new(uint256.Int)); !w[5].Eq(noDebtSeen) {
		a.Health = decimal(&w[5], wadPlaces)
	}
	if p.eMode[i] != nil && p.eMode[i].LtUint64(256) {
		a.EMode = p.eMode[i].Uint64()
	}
	return a
}
