package chain

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// ledger computes balances from the plan's moves, without the EVM.
type ledger struct {
	cast     Cast
	tokens   map[string]Token
	balances map[position]*uint256.Int
}

// position names one balance.
type position struct{ holder, asset common.Address }

// newLedger is the ledger at the genesis block.
func newLedger() *ledger {
	l := &ledger{cast: DevCast(), tokens: map[string]Token{}, balances: map[position]*uint256.Int{}}
	for _, t := range SeededTokens() {
		l.tokens[t.Symbol] = t
	}
	for holder, wei := range genesisEther(l.cast) {
		l.balances[position{holder, Native()}] = wei
	}
	return l
}

// balance returns the ledger's own number; callers must not modify it.
func (l *ledger) balance(holder, asset common.Address) *uint256.Int {
	if b, ok := l.balances[position{holder, asset}]; ok {
		return b
	}
	return new(uint256.Int)
}

// apply adds a move and its sender's fee to the balances.
func (l *ledger) apply(m Move) {
	if m.From == (common.Address{}) {
		l.add(m.To, m.Asset, m.Amount)
		return
	}
	fee := l.fee(m)
	l.sub(m.From, m.Asset, m.Amount)
	l.add(m.To, m.Asset, m.Amount)
	l.sub(m.From, Native(), fee)
}

func (l *ledger) add(holder, asset common.Address, amount *uint256.Int) {
	l.balances[position{holder, asset}] = new(uint256.Int).Add(l.balance(holder, asset), amount)
}

func (l *ledger) sub(holder, asset common.Address, amount *uint256.Int) {
	l.balances[position{holder, asset}] = new(uint256.Int).Sub(l.balance(holder, asset), amount)
}

// fee returns the cost of a move in wei. It must be called before the move is applied: the gas depends on
// whether the move writes a new storage slot or clears one.
func (l *ledger) fee(m Move) *uint256.Int {
	gas := uint64(etherTransferGas)
	if m.Asset != Native() {
		fresh := l.balance(m.To, m.Asset).IsZero()
		cleared := l.balance(m.From, m.Asset).Eq(m.Amount)
		gas = tokenTransferGas(m, fresh, cleared)
	}
	return new(uint256.Int).Mul(uint256.NewInt(gas), uint256.NewInt(gasPrice))
}
