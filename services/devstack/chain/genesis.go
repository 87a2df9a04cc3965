package chain

import (
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
)

const (
	blockGasLimit = 30_000_000

	// floorBaseFee is where an EIP-1559 base fee stays when blocks are under half
	// full: an eighth of it rounds to nothing.
	floorBaseFee = 7
)

// genesis is block 0: ether for three accounts (four with DeFi), Multicall3, and the price feeds.
func genesis(meta metadata) (*core.Genesis, error) {
	multicall, err := LoadArtifact("Multicall3")
	if err != nil {
		return nil, err
	}
	alloc := types.GenesisAlloc{
		MulticallAddress(): {Code: multicall.Runtime, Balance: new(big.Int), Nonce: 1},
	}
	feed, err := LoadArtifact("PriceFeed")
	if err != nil {
		return nil, err
	}
	for _, f := range PriceFeeds() {
		if alloc[f.Address], err = f.account(feed.Runtime); err != nil {
			return nil, err
		}
	}
	for holder, wei := range genesisEther(DevCast()) {
		alloc[holder] = types.Account{Balance: wei.ToBig()}
	}
	if meta.Defi {
		alloc[defiAccount().Address] = types.Account{Balance: units(2_000, 18).ToBig()}
	}
	return &core.Genesis{
		Config:     chainConfig(meta.ChainID),
		Timestamp:  uint64(meta.Start.Unix()),
		ExtraData:  fmt.Appendf(nil, "purser/%d/%x/%d", meta.Format, meta.Seed, meta.BlockEvery/time.Second),
		GasLimit:   blockGasLimit,
		BaseFee:    big.NewInt(floorBaseFee),
		Difficulty: new(big.Int),
		Alloc:      alloc,
	}, nil
}

// genesisEther is the ether that exists. There is no other: blocks carry no reward.
func genesisEther(cast Cast) map[common.Address]*uint256.Int {
	return map[common.Address]*uint256.Int{
		cast.Deployer.Address: units(1_000, 18),
		cast.Treasury.Address: units(50_000_000, 18),
		cast.Faucet.Address:   units(50_000_000, 18),
	}
}

// chainConfig has every fork up to Cancun from the first block on.
func chainConfig(id uint64) *params.ChainConfig {
	zero := func() *uint64 { return new(uint64) }
	return &params.ChainConfig{
		ChainID:                 new(big.Int).SetUint64(id),
		HomesteadBlock:          new(big.Int),
		EIP150Block:             new(big.Int),
		EIP155Block:             new(big.Int),
		EIP158Block:             new(big.Int),
		ByzantiumBlock:          new(big.Int),
		ConstantinopleBlock:     new(big.Int),
		PetersburgBlock:         new(big.Int),
		IstanbulBlock:           new(big.Int),
		MuirGlacierBlock:        new(big.Int),
		BerlinBlock:             new(big.Int),
		LondonBlock:             new(big.Int),
		ArrowGlacierBlock:       new(big.Int),
		GrayGlacierBlock:        new(big.Int),
		MergeNetsplitBlock:      new(big.Int),
		TerminalTotalDifficulty: new(big.Int),
		ShanghaiTime:            zero(),
		CancunTime:              zero(),
		BlobScheduleConfig:      &params.BlobScheduleConfig{Cancun: params.DefaultCancunBlobConfig},
	}
}
