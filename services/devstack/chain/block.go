package chain

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
)

// blockBuilder adds transactions to one block. It leaves out invalid transactions, so that they cannot prevent
// the block.
type blockBuilder struct {
	gen    *core.BlockGen
	chain  *core.BlockChain
	signer types.Signer
}

// addPending adds the transactions of the pool.
func (b blockBuilder) addPending(txs []*types.Transaction) {
	for _, tx := range txs {
		from, err := types.Sender(b.signer, tx)
		if err != nil || !b.affords(from, tx) || b.gen.TxNonce(from) != tx.Nonce() {
			continue
		}
		b.gen.AddTxWithChain(b.chain, tx)
	}
}

// addMoves adds the plan's moves, each sent by its own account.
func (b blockBuilder) addMoves(moves []Move) {
	if len(moves) == 0 {
		return
	}
	accounts := senders()
	for _, m := range moves {
		from, ok := accounts[m.From]
		if !ok || b.gen.GetBalance(from.Address).IsZero() {
			continue
		}
		tx, err := types.SignNewTx(from.key, b.signer, b.body(m, b.gen.TxNonce(from.Address)))
		if err != nil {
			panic(err)
		}
		if b.affords(from.Address, tx) {
			b.gen.AddTxWithChain(b.chain, tx)
		}
	}
}

// addDefi adds the DeFi transactions of the steps in (after, upTo].
func (b blockBuilder) addDefi(meta metadata, after, upTo int) {
	for step := after + 1; step <= upTo; step++ {
		actions, err := defiActions(meta, step)
		if err != nil {
			panic(err)
		}
		for _, a := range actions {
			b.addAction(a)
		}
	}
}

func (b blockBuilder) addAction(a defiAction) {
	body := &types.LegacyTx{Nonce: b.gen.TxNonce(a.from.Address), GasPrice: big.NewInt(gasPrice), Gas: a.gas,
		To: a.to, Data: a.data}
	if a.value != nil {
		body.Value = a.value.ToBig()
	}
	tx, err := types.SignNewTx(a.from.key, b.signer, body)
	if err != nil {
		panic(err)
	}
	if b.affords(a.from.Address, tx) {
		b.gen.AddTxWithChain(b.chain, tx)
	}
}

// body is the transaction that carries out a move.
func (b blockBuilder) body(m Move, nonce uint64) *types.LegacyTx {
	tx := &types.LegacyTx{Nonce: nonce, GasPrice: big.NewInt(gasPrice), Gas: transferGasLimit}
	switch {
	case m.From == (common.Address{}):
		tx.Gas = deployGasLimit
		tx.Data = deploymentData(m)
	case m.Asset == Native():
		tx.Gas = etherTransferGas
		tx.To, tx.Value = &m.To, m.Amount.ToBig()
	default:
		tx.To, tx.Data = &m.Asset, transferCall(m.To, m.Amount)
	}
	return tx
}

// affords reports whether the block has the gas for tx and its sender the funds.
func (b blockBuilder) affords(from common.Address, tx *types.Transaction) bool {
	cost, overflow := uint256.FromBig(tx.Cost())
	return !overflow && !b.gen.GetBalance(from).Lt(cost) &&
		b.gen.Gas() >= tx.Gas() && tx.GasFeeCap().Cmp(b.gen.BaseFee()) >= 0
}

// senders are the accounts that the plan sends from. Minting, from the zero
// address, is the deployer's.
func senders() map[common.Address]Account {
	cast := DevCast()
	return map[common.Address]Account{
		{}:                    cast.Deployer,
		cast.Treasury.Address: cast.Treasury,
		cast.Alice.Address:    cast.Alice,
		cast.Bob.Address:      cast.Bob,
	}
}

// deploymentData is the data of the transaction that creates a minted token.
func deploymentData(m Move) []byte {
	erc20, err := LoadArtifact("ERC20")
	if err != nil {
		panic(err)
	}
	for _, t := range SeededTokens() {
		if t.Address == m.Asset {
			data, err := t.deployment(erc20, m.To)
			if err != nil {
				panic(err)
			}
			return data
		}
	}
	panic("chain: the plan mints an unknown token")
}
