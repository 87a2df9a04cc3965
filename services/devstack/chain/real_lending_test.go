package chain_test

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/internal/servicetest"
)

// Aave's own contracts, compiled and published by Aave (npm's @aave/core-v3 1.19.3), answer the table as on file. They
// run on the embedded chain: the EVM is go-ethereum's, and the times of blocks are those of the run with our own.
func TestTheRealLendingPoolGivesTheAnswersOnFile(t *testing.T) {
	if os.Getenv("PURSER_PROVE") == "" && !*writeAnswers {
		t.Skip("make real runs it; its answers on file are those of TestTheLendingPoolAnswersAsTheRealOneDid")
	}
	t.Parallel()
	dir := servicetest.NPM(t, filepath.Join("testdata", "aave"), "aave", "the real contracts of Aave")
	r := newLendingRun(t)
	aave := &aave{lendingRun: r, dir: filepath.Join(dir, "node_modules/@aave/core-v3/artifacts/contracts/protocol"),
		libraries: map[string]common.Address{}}
	r.list(aave.deploy())
	have := r.run()
	if *writeAnswers {
		r.writeAnswers(have)
	}
	var want []lendingAnswer
	readJSON(t, "lending_answers.json", &want)
	compareAnswers(t, have, want)
}

// aave deploys the real contracts with the table's reserves.
type aave struct {
	*lendingRun
	dir       string
	libraries map[string]common.Address
}

// contract is an artifact of Hardhat.
type contract struct {
	ABI            abi.ABI `json:"abi"`
	Bytecode       string  `json:"bytecode"`
	LinkReferences map[string]map[string][]struct{ Start, Length int }
}

// load reads the artifact of a contract below the folder of the protocol.
func (a *aave) load(path string) (c contract) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, path+".sol", filepath.Base(path)+".json"))
	if err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// create deploys a contract and, before it, the libraries that it is linked with.
func (a *aave) create(path string, args ...any) common.Address {
	a.t.Helper()
	c := a.load(path)
	code := []byte(strings.TrimPrefix(c.Bytecode, "0x"))
	for _, libraries := range c.LinkReferences {
		for name, places := range libraries {
			if _, made := a.libraries[name]; !made {
				a.libraries[name] = a.create("libraries/logic/" + name)
			}
			for _, p := range places {
				copy(code[2*p.Start:], hex.EncodeToString(a.libraries[name].Bytes()))
			}
		}
	}
	raw, err := hex.DecodeString(string(code))
	if err != nil {
		a.t.Fatal(err)
	}
	packed, err := c.ABI.Pack("", args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.must(path, nil, append(raw, packed...)).ContractAddress
}

// call calls a method of a contract as the admin.
func (a *aave) call(path string, to common.Address, method string, args ...any) {
	a.t.Helper()
	data, err := a.load(path).ABI.Pack(method, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(method, &to, data)
}

func (a *aave) deploy() common.Address {
	a.t.Helper()
	const provider, configurator = "configuration/PoolAddressesProvider", "pool/PoolConfigurator"
	admin := a.users["admin"].Address
	addresses := a.create(provider, "test", admin)
	a.call(provider, addresses, "setACLAdmin", admin)
	acl := a.create("configuration/ACLManager", addresses)
	a.call("configuration/ACLManager", acl, "addPoolAdmin", admin)
	a.call(provider, addresses, "setACLManager", acl)
	a.call(provider, addresses, "setPriceOracle", a.deployOracle())
	a.call(provider, addresses, "setPoolImpl", a.create("pool/Pool", addresses))
	a.call(provider, addresses, "setPoolConfiguratorImpl", a.create(configurator))
	pool := common.BytesToAddress(a.read(addresses, "getPool()")[0][:])
	configure := common.BytesToAddress(a.read(addresses, "getPoolConfigurator()")[0][:])

	type input struct {
		ATokenImpl, StableDebtTokenImpl, VariableDebtTokenImpl common.Address
		UnderlyingAssetDecimals                                uint8
		InterestRateStrategyAddress, UnderlyingAsset, Treasury common.Address
		IncentivesController                                   common.Address
		ATokenName, ATokenSymbol                               string
		VariableDebtTokenName, VariableDebtTokenSymbol         string
		StableDebtTokenName, StableDebtTokenSymbol             string
		Params                                                 []byte
	}
	supplied := a.create("tokenization/AToken", pool)
	stable := a.create("tokenization/StableDebtToken", pool)
	borrowed := a.create("tokenization/VariableDebtToken", pool)
	zero := new(big.Int)
	for _, x := range a.table.Reserves {
		asset := token(a.t, a.chain, x.Symbol)
		rates := a.create("pool/DefaultReserveInterestRateStrategy", addresses, percents(x.Optimal), percents(x.Base),
			percents(x.Slope1), percents(x.Slope2), zero, zero, zero, zero, percents(20))
		a.call(configurator, configure, "initReserves", []input{{supplied, stable, borrowed, asset.Decimals, rates,
			asset.Address, a.treasury(), common.Address{}, "a", "a", "v", "v", "s", "s", []byte{}}})
		if x.LTV != 0 {
			a.call(configurator, configure, "configureReserveAsCollateral", asset.Address,
				new(big.Int).SetUint64(x.LTV), new(big.Int).SetUint64(x.Threshold), new(big.Int).SetUint64(x.Bonus))
		}
		a.call(configurator, configure, "setReserveBorrowing", asset.Address, true)
		a.call(configurator, configure, "setReserveFactor", asset.Address, new(big.Int).SetUint64(x.Treasury))
	}
	return pool
}
