package chain

import (
	"embed"
	"encoding/json"
	"fmt"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// artifacts are the compiled contracts, written by contracts/compile.mjs.
//
//go:embed artifacts/*.json
var artifacts embed.FS

// Artifact is a compiled contract.
type Artifact struct {
	// ABI is the contract's interface.
	ABI abi.ABI
	// Creation is the code that deploys the contract, before constructor arguments.
	Creation []byte
	// Runtime is the code at the contract's address, with immutables left zero.
	Runtime []byte
}

// LoadArtifact reads the compiled contract of the given name: "ERC20", "ERC1271Wallet", "Multicall3", "PriceFeed",
// or one of DeFi, such as "LendingPool", "SupplyToken", "VariableDebtToken", "LendingOracle", "YieldVault",
// "StakedEther", "WrappedStakedEther", "LiquidityPair" or "StakingRewards".
func LoadArtifact(name string) (Artifact, error) {
	raw, err := artifacts.ReadFile("artifacts/" + name + ".json")
	if err != nil {
		return Artifact{}, fmt.Errorf("chain: no contract %q: %w", name, err)
	}
	var file struct {
		ABI      abi.ABI       `json:"abi"`
		Bytecode hexutil.Bytes `json:"bytecode"`
		Runtime  hexutil.Bytes `json:"runtime"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return Artifact{}, fmt.Errorf("chain: contract %q: %w", name, err)
	}
	return Artifact{ABI: file.ABI, Creation: file.Bytecode, Runtime: file.Runtime}, nil
}
