package chain

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
)

// Fund sends amount of asset (a token's address, or Native()), in base units, from
// the faucet. The transfer is in the next block. The faucet has a hundredth of
// every token's supply and no MAX.
func (c *Chain) Fund(ctx context.Context, to, asset common.Address, amount *uint256.Int) (common.Hash, error) {
	return c.Send(ctx, c.cast.Faucet, to, asset, amount)
}

// Send sends amount of asset (a token's address, or Native()), in base units, from
// an account of the Cast. The transfer is in the next block, and fails there if the
// balance is too low. Expected does not include it.
func (c *Chain) Send(ctx context.Context, from Account, to, asset common.Address, amount *uint256.Int) (common.Hash,
	error) {
	body := types.LegacyTx{Gas: transferGasLimit, To: &asset, Data: transferCall(to, amount)}
	if asset == Native() {
		body.To, body.Value, body.Data = &to, amount.ToBig(), nil
	}
	return c.send(ctx, from, body)
}

// Transact sends a call of a contract by an account of the Cast, with gas for any of the seeded contracts' methods. It
// is in the next block, and may fail there.
func (c *Chain) Transact(ctx context.Context, from Account, to common.Address, data []byte) (common.Hash, error) {
	return c.send(ctx, from, types.LegacyTx{Gas: callGasLimit, To: &to, Data: data})
}

// send signs a transaction and adds it to the pool.
func (c *Chain) send(ctx context.Context, from Account, body types.LegacyTx) (common.Hash, error) {
	c.mining.Lock()
	defer c.mining.Unlock()

	if err := ctx.Err(); err != nil {
		return common.Hash{}, err
	}
	pool := c.eth.TxPool()
	if err := pool.Sync(); err != nil {
		return common.Hash{}, fmt.Errorf("chain: %w", err)
	}
	body.Nonce, body.GasPrice = pool.PoolNonce(from.Address), big.NewInt(gasPrice)
	tx, err := types.SignNewTx(from.key, types.LatestSigner(c.eth.BlockChain().Config()), &body)
	if err != nil {
		return common.Hash{}, fmt.Errorf("chain: %w", err)
	}
	if err := pool.Add([]*types.Transaction{tx}, true)[0]; err != nil {
		return common.Hash{}, fmt.Errorf("chain: send from %s: %w", from.Name, err)
	}
	return tx.Hash(), nil
}

// pending returns the pool's transactions that could go into the next block, each
// account's in the order of their nonces.
func (c *Chain) pending() []*types.Transaction {
	pool := c.eth.TxPool()
	if err := pool.Sync(); err != nil {
		return nil
	}
	byAccount, _ := pool.Pending(txpool.PendingFilter{})
	var txs []*types.Transaction
	for _, account := range sortedAddresses(byAccount) {
		for _, lazy := range byAccount[account] {
			if tx := lazy.Resolve(); tx != nil && tx.Type() != types.BlobTxType {
				txs = append(txs, tx)
			}
		}
	}
	return txs
}

// sortedAddresses makes the order of accounts in a block the same every time.
func sortedAddresses[V any](m map[common.Address]V) []common.Address {
	return slices.SortedFunc(maps.Keys(m), common.Address.Cmp)
}
