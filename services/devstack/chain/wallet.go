package chain

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// WalletOf is the address of owner's contract wallet, see DeployWallet.
func WalletOf(owner Account) common.Address {
	return crypto.CreateAddress(walletDeployer(owner).Address, 0)
}

// walletDeployer sends no other transactions, so that the wallet's address depends on the owner only.
func walletDeployer(owner Account) Account {
	return devAccount("deployer of the wallet of " + owner.Name)
}

// DeployWallet deploys a contract wallet (ERC-1271) that accepts owner's signatures, unless it exists. It
// mines two blocks.
func (c *Chain) DeployWallet(ctx context.Context, owner Account) (common.Address, error) {
	address, deployer := WalletOf(owner), walletDeployer(owner)
	state, err := c.eth.BlockChain().State()
	if err != nil {
		return address, fmt.Errorf("chain: %w", err)
	}
	if state.GetCodeSize(address) > 0 {
		return address, nil
	}
	artifact, err := LoadArtifact("ERC1271Wallet")
	if err != nil {
		return address, err
	}
	args, err := artifact.ABI.Pack("", owner.Address)
	if err != nil {
		return address, fmt.Errorf("chain: wallet of %s: %w", owner.Name, err)
	}
	if _, err := c.Fund(ctx, deployer.Address, Native(), units(1, 18)); err != nil {
		return address, err
	}
	if err := c.Mine(ctx); err != nil {
		return address, err
	}
	tx, err := types.SignNewTx(deployer.key, types.LatestSigner(c.eth.BlockChain().Config()), &types.LegacyTx{
		GasPrice: big.NewInt(gasPrice), Gas: walletGasLimit,
		Data: append(common.CopyBytes(artifact.Creation), args...),
	})
	if err != nil {
		return address, fmt.Errorf("chain: %w", err)
	}
	// The pool handles the block with the funds asynchronously.
	if err := c.eth.TxPool().Sync(); err != nil {
		return address, fmt.Errorf("chain: %w", err)
	}
	if err := c.eth.TxPool().Add([]*types.Transaction{tx}, true)[0]; err != nil {
		return address, fmt.Errorf("chain: wallet of %s: %w", owner.Name, err)
	}
	if err := c.Mine(ctx); err != nil {
		return address, err
	}
	if state, err = c.eth.BlockChain().State(); err == nil && state.GetCodeSize(address) == 0 {
		err = fmt.Errorf("chain: wallet of %s: the deployment failed", owner.Name)
	}
	return address, err
}

// walletGasLimit exceeds the gas of the deployment.
const walletGasLimit = 500_000

// SignMessage signs a message with the account's key as personal_sign does (EIP-191). It returns r, s and v.
func (a Account) SignMessage(message string) ([]byte, error) {
	digest := crypto.Keccak256(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(message), message))
	sig, err := crypto.Sign(digest, a.key)
	if err != nil {
		return nil, fmt.Errorf("chain: sign: %w", err)
	}
	sig[crypto.RecoveryIDOffset] += 27
	return sig, nil
}
