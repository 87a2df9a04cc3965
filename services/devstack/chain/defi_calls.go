package chain

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// variableRate is the lending pool's number for debt at a variable rate, the only kind that it has.
const variableRate = 2

// Supply supplies amount of a token's base units to the lending pool, for an account of the Cast and out of its own
// balance. It sends an approval and the supply, which are in the next block and may fail there, as those of Withdraw,
// Borrow and Repay. It returns the hash of the supply. The chain must have Options.Defi.
func (c *Chain) Supply(ctx context.Context, from Account, token common.Address, amount *uint256.Int) (common.Hash,
	error) {
	if err := c.approvePool(ctx, from, token); err != nil {
		return common.Hash{}, err
	}
	return c.lend(ctx, from, "supply", token, amount.ToBig(), from.Address, uint16(0))
}

// Withdraw withdraws from the lending pool to the account itself; an amount of 2^256-1 is all of it.
func (c *Chain) Withdraw(ctx context.Context, from Account, token common.Address, amount *uint256.Int) (common.Hash,
	error) {
	return c.lend(ctx, from, "withdraw", token, amount.ToBig(), from.Address)
}

// Borrow borrows from the lending pool at the variable rate, against what the account has supplied.
func (c *Chain) Borrow(ctx context.Context, from Account, token common.Address, amount *uint256.Int) (common.Hash,
	error) {
	return c.lend(ctx, from, "borrow", token, amount.ToBig(), big.NewInt(variableRate), uint16(0), from.Address)
}

// Repay pays back the account's own debt to the lending pool; an amount of 2^256-1 is all of it, and more than the
// debt is taken as the debt. It sends an approval before.
func (c *Chain) Repay(ctx context.Context, from Account, token common.Address, amount *uint256.Int) (common.Hash,
	error) {
	if err := c.approvePool(ctx, from, token); err != nil {
		return common.Hash{}, err
	}
	return c.lend(ctx, from, "repay", token, amount.ToBig(), big.NewInt(variableRate), from.Address)
}

// approvePool lets the lending pool take a token from an account without a limit.
func (c *Chain) approvePool(ctx context.Context, from Account, token common.Address) error {
	pool, ok := c.Market(LendingPoolName)
	if !ok {
		return errNoDefi()
	}
	erc20, err := LoadArtifact("ERC20")
	if err != nil {
		return err
	}
	data, err := erc20.ABI.Pack("approve", pool.Address, new(uint256.Int).SetAllOne().ToBig())
	if err != nil {
		return fmt.Errorf("chain: approve: %w", err)
	}
	_, err = c.Transact(ctx, from, token, data)
	return err
}

// lend calls a method of the lending pool.
func (c *Chain) lend(ctx context.Context, from Account, method string, args ...any) (common.Hash, error) {
	pool, ok := c.Market(LendingPoolName)
	if !ok {
		return common.Hash{}, errNoDefi()
	}
	artifact, err := LoadArtifact("LendingPool")
	if err != nil {
		return common.Hash{}, err
	}
	data, err := artifact.ABI.Pack(method, args...)
	if err != nil {
		return common.Hash{}, fmt.Errorf("chain: %s: %w", method, err)
	}
	return c.Transact(ctx, from, pool.Address, data)
}

func errNoDefi() error { return errors.New("chain: there is no lending pool without Options.Defi") }
