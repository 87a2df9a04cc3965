package chain

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/purserhq/purser/services/devstack/prices"
)

// PriceFeed is a contract in the shape of Chainlink's AggregatorV3Interface, which the genesis block has.
type PriceFeed struct {
	// Symbol of what it prices in US dollars: a token, or a currency.
	Symbol  string
	Address common.Address
}

// PriceFeeds returns the feeds of the chain. Their addresses are the same on every chain, and their prices are those
// of package prices, at each full hour and each block.
func PriceFeeds() []PriceFeed { return slices.Clone(priceFeeds()) }

var priceFeeds = sync.OnceValue(func() []PriceFeed {
	var feeds []PriceFeed
	owner := devAccount("price feeds").Address // which sends nothing
	for i, symbol := range []string{"ETH", "WETH", "USDC", "WBTC", "LINK", "DAI", "EUR", "GBP", "CHF", "JPY"} {
		feeds = append(feeds, PriceFeed{Symbol: symbol, Address: crypto.CreateAddress(owner, uint64(i))})
	}
	return feeds
})

// account is the feed as it is in the genesis block.
func (f PriceFeed) account(code []byte) (types.Account, error) {
	walk, ok := prices.WalkOf(f.Symbol)
	description := f.Symbol + " / USD"
	if !ok || len(description) > 31 {
		return types.Account{}, fmt.Errorf("chain: no price feed of %q", f.Symbol)
	}
	// Solidity keeps a string of less than 32 bytes in its slot, with twice its length in the last byte.
	var text common.Hash
	copy(text[:], description)
	text[31] = byte(2 * len(description))
	number := func(n uint64) (h common.Hash) {
		binary.BigEndian.PutUint64(h[24:], n)
		return h
	}
	return types.Account{Code: code, Balance: new(big.Int), Nonce: 1, Storage: map[common.Hash]common.Hash{
		number(0): text, number(1): number(walk.Seed), number(2): number(uint64(walk.Base)),
		number(3): number(uint64(walk.MaxDeviation)),
	}}, nil
}
