package chain

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// Token is an ERC-20 token of the local chain.
type Token struct {
	Symbol, Name string
	Decimals     uint8
	Address      common.Address
	// Verified is false for the token without a price.
	Verified bool
	// Supply is the whole supply, in base units.
	Supply *uint256.Int
}

// Native is the address that stands for ether in place of a token's.
func Native() common.Address { return common.Address{} }

// MulticallAddress is the address of Multicall3, here as on public chains.
func MulticallAddress() common.Address {
	return common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11")
}

// SeededTokens returns the tokens that every chain has from block 1 on, in the order of their
// deployment. Their addresses are the same on every chain. The supplies must not be modified.
func SeededTokens() []Token { return slices.Clone(seededTokens()) }

var seededTokens = sync.OnceValue(func() []Token {
	deployer := DevCast().Deployer.Address
	tokens := []Token{
		{Symbol: "WETH", Name: "Wrapped Ether (local)", Decimals: 18, Verified: true, Supply: units(3_000_000, 18)},
		{Symbol: "USDC", Name: "USD Coin (local)", Decimals: 6, Verified: true, Supply: units(50_000_000_000, 6)},
		{Symbol: "WBTC", Name: "Wrapped BTC (local)", Decimals: 8, Verified: true, Supply: units(150_000, 8)},
		{Symbol: "LINK", Name: "ChainLink Token (local)", Decimals: 18, Verified: true,
			Supply: units(1_000_000_000, 18)},
		{Symbol: "DAI", Name: "Dai Stablecoin (local)", Decimals: 18, Verified: true,
			Supply: units(5_000_000_000, 18)},
		{Symbol: "MAX", Name: "Largest Possible Supply (local)", Decimals: 0, Supply: new(uint256.Int).SetAllOne()},
	}
	for i := range tokens {
		tokens[i].Address = crypto.CreateAddress(deployer, uint64(i))
	}
	return tokens
})

// units returns n whole tokens in base units.
func units(n uint64, decimals uint8) *uint256.Int {
	scale := new(uint256.Int).Exp(uint256.NewInt(10), uint256.NewInt(uint64(decimals)))
	return scale.Mul(scale, uint256.NewInt(n))
}

// deployment is the data of the transaction that creates the token and mints its supply to holder.
func (t Token) deployment(erc20 Artifact, holder common.Address) ([]byte, error) {
	args, err := erc20.ABI.Pack("", t.Name, t.Symbol, t.Decimals, t.Supply.ToBig(), holder)
	if err != nil {
		return nil, fmt.Errorf("chain: deploy %s: %w", t.Symbol, err)
	}
	return append(common.CopyBytes(erc20.Creation), args...), nil
}
