package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// The methods of Uniswap v2's pairs and their factory.
var (
	pairToken0   = selector("token0()")
	pairToken1   = selector("token1()")
	pairReserves = selector("getReserves()")
	pairLast     = selector("kLast()")
	pairFactory  = selector("factory()")
	factoryFeeTo = selector("feeTo()")
)

// uniswapV2 reads pairs in the shape of Uniswap v2's (@uniswap/v2-core 1.0.1): what burn would pay for all of a
// holder's shares in the block.
//
// Burn pays by what the pair has of its tokens, not by its reserves, and first makes new shares for the protocol's fee
// where there is one: so a share is worth less than reserves over supply, by 0.47 % after 400 swaps.
type uniswapV2 struct{}

// pair is one at a block.
type pair struct {
	Market
	tokens  [2]common.Address
	amounts [2]*uint256.Int // what the pair has of its tokens
	supply  *uint256.Int    // with the shares of the fee
}

func (uniswapV2) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	p, ok := readPair(m, callAll)
	if !ok {
		return unknown(m, len(holders), "the contract answers as no pair of Uniswap v2 does")
	}
	out := readings(m, len(holders))
	ids, receipt := [2]string{m.erc20(p.tokens[0]), m.erc20(p.tokens[1])}, m.self()
	for i, a := range callAll(ofEach(m.Contract, balanceOf, holders)) {
		shares := a.word()
		if shares == nil {
			out[i].Missing = "its balance of shares"
			continue
		}
		for t := range p.tokens {
			amount := new(uint256.Int)
			if !shares.IsZero() {
				if amount, ok = mulDiv(shares, p.amounts[t], p.supply); !ok {
					out[i].miss("the value of its shares: burn would fail")
					continue
				}
			}
			out[i].Positions = append(out[i].Positions, Position{Kind: Liquidity, Asset: ids[t],
				Amount: *amount, Receipt: receipt, Ended: shares.IsZero()})
		}
	}
	return out
}

func readPair(m Market, callAll CallAll) (pair, bool) {
	p := pair{Market: m}
	shape := callAll([]Call{call(m.Contract, pairToken0), call(m.Contract, pairToken1), call(m.Contract, totalSupply),
		call(m.Contract, pairReserves), call(m.Contract, pairLast), call(m.Contract, pairFactory)})
	var ok [3]bool
	p.tokens[0], ok[0] = shape[0].address()
	p.tokens[1], ok[1] = shape[1].address()
	factory, isOf := shape[5].address()
	ok[2] = isOf
	supply, reserves, last := shape[2].word(), shape[3].words(3), shape[4].word()
	if !ok[0] || !ok[1] || !ok[2] || supply == nil || reserves == nil || last == nil {
		return p, false
	}
	more := callAll([]Call{call(factory, factoryFeeTo), callFor(p.tokens[0], balanceOf, m.Contract),
		callFor(p.tokens[1], balanceOf, m.Contract)})
	feeTo := more[0].word() // zero without a fee
	p.amounts = [2]*uint256.Int{more[1].word(), more[2].word()}
	if feeTo == nil || p.amounts[0] == nil || p.amounts[1] == nil {
		return p, false
	}
	p.supply = supply
	if !feeTo.IsZero() && !last.IsZero() {
		fee, ok := feeShares(supply, &reserves[0], &reserves[1], last)
		if !ok {
			return p, false
		}
		if _, overflow := p.supply.AddOverflow(p.supply, fee); overflow {
			return p, false
		}
	}
	return p, true
}

// feeShares is how many shares the pair makes for the protocol's fee, a sixth of what its root has grown by since the
// product of its reserves was last noted.
func feeShares(supply, reserve0, reserve1, last *uint256.Int) (*uint256.Int, bool) {
	product, overflow := new(uint256.Int).MulOverflow(reserve0, reserve1)
	if overflow {
		return nil, false
	}
	root, rootLast := new(uint256.Int).Sqrt(product), new(uint256.Int).Sqrt(last)
	if !root.Gt(rootLast) {
		return new(uint256.Int), true
	}
	by := new(uint256.Int).Add(new(uint256.Int).Mul(root, uint256.NewInt(5)), rootLast)
	return mulDiv(supply, new(uint256.Int).Sub(root, rootLast), by)
}

// mulDiv is a×b/c, rounded down. It reports false where the contract, which has 256 bits, would fail.
func mulDiv(a, b, c *uint256.Int) (*uint256.Int, bool) {
	product, overflow := new(uint256.Int).MulOverflow(a, b)
	if overflow || c.IsZero() {
		return nil, false
	}
	return product.Div(product, c), true
}
