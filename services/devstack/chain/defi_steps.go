package chain

import (
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// firstDefiStep is the earliest step of the plan at which the DeFi contracts can be made; they are filled in the next.
const firstDefiStep = 2

// defiHistory is for how long before its first start a chain has DeFi contracts, if it has so much of a history.
const defiHistory = 35 * 24 * time.Hour

// defiStep is the step at which the DeFi contracts are made.
func (o Options) defiStep() int { return max(firstDefiStep, int((o.History-defiHistory)/o.BlockEvery)) }

// The gas limits of DeFi transactions: of one that makes a contract, of one that opens the positions, and of others. A
// block has the gas for what the deployments use, and for the limit of the last of them.
const defiDeployGas, defiOpenGas, defiCallGas = 4_000_000, 12_000_000, 2_000_000

// defiAction is a transaction of a step. to is nil for one that makes a contract; value may be nil.
type defiAction struct {
	from  Account
	to    *common.Address
	value *uint256.Int
	data  []byte
	gas   uint64
}

// defiActions are the DeFi transactions of a step of the plan, in their order.
func defiActions(meta metadata, step int) ([]defiAction, error) {
	deploy := max(firstDefiStep, meta.DefiStep)
	switch p := meta.plan(); {
	case step == deploy:
		return deployDefi()
	case step == deploy+1:
		return openDefi(meta.ChainID)
	case step > deploy+1 && day(p.At(step)) != day(p.At(step-1)):
		return defiCalls(defiCall{to: "keeper", artifact: "DefiKeeper", method: "tend"})
	default:
		return nil, nil
	}
}

// day is the number of days since 1970.
func day(t time.Time) int64 { return t.Unix() / 86_400 }

// deployDefi makes the contracts and the pair.
func deployDefi() ([]defiAction, error) {
	var actions []defiAction
	for _, d := range defiContracts() {
		data, err := d.creation()
		if err != nil {
			return nil, err
		}
		a := defiAction{from: defiAccount(), data: data, gas: defiDeployGas}
		if d.name == "keeper" {
			a.value = units(1_500, 18)
		}
		actions = append(actions, a)
	}
	token := seededAddresses()
	pair, err := defiCalls(defiCall{"factory", "LiquidityFactory", "createPair",
		[]any{token["WETH"], token["USDC"]}})
	return append(actions, pair...), err
}

// openDefi lists the pool's reserves, gives the keeper its funds, and opens everybody's positions.
func openDefi(chainID uint64) ([]defiAction, error) {
	var calls []defiCall
	var dropped []defiCall
	at, token := defiAddresses(), newLedger().tokens
	for _, r := range reserves() {
		t := token[r.symbol]
		bits := r.configuration(t.Decimals)
		configuration := (&uint256.Int{bits[0], bits[1], 0, 0}).ToBig()
		tokens := [4]common.Address{at["supplied "+r.symbol], at["stable "+r.symbol], at["borrowed "+r.symbol],
			at[r.rates()]}
		calls = append(calls, defiCall{"pool", "LendingPool", "addReserve",
			[]any{t.Address, tokens, configuration}})
		if r.unlisted {
			dropped = append(dropped, defiCall{"pool", "LendingPool", "dropReserve", []any{t.Address}})
		}
	}
	actions, err := defiCalls(append(calls, dropped...)...)
	if err != nil {
		return nil, err
	}
	for _, f := range keeperFunds() {
		t := token[f.symbol]
		actions = append(actions, defiAction{from: DevCast().Faucet, to: &t.Address,
			data: transferCall(at["keeper"], units(f.whole, t.Decimals)), gas: transferGasLimit})
	}
	alice := DevCast().Alice
	v, r, s, err := signDelegation(alice, chainID, at["keeper"], units(8_000, 6))
	if err != nil {
		return nil, err
	}
	open, err := defiCalls(defiCall{"keeper", "DefiKeeper", "open", []any{alice.Address, v, r, s}})
	if err != nil {
		return nil, err
	}
	open[0].gas = defiOpenGas
	return append(actions, open...), nil
}

// keeperFunds are the whole tokens that the faucet gives to the keeper.
func keeperFunds() []keeperFund {
	return []keeperFund{{"WETH", 2_500}, {"USDC", 3_000_000}, {"WBTC", 25}, {"LINK", 10_000}, {"DAI", 2_500_000}}
}

type keeperFund struct {
	symbol string
	whole  uint64
}

// defiCall is a call by defiAccount of one of its contracts.
type defiCall struct {
	to, artifact, method string
	args                 []any
}

func defiCalls(calls ...defiCall) ([]defiAction, error) {
	var actions []defiAction
	for _, c := range calls {
		artifact, err := LoadArtifact(c.artifact)
		if err != nil {
			return nil, err
		}
		data, err := artifact.ABI.Pack(c.method, c.args...)
		if err != nil {
			return nil, fmt.Errorf("chain: %s of %s: %w", c.method, c.to, err)
		}
		to := defiAddresses()[c.to]
		actions = append(actions, defiAction{from: defiAccount(), to: &to, data: data, gas: defiCallGas})
	}
	return actions, nil
}

// signDelegation signs that to may borrow up to amount of USDC for owner, as the debt token's delegationWithSig
// takes it (EIP-712): the owner's first one, without an end.
func signDelegation(owner Account, chainID uint64, to common.Address, amount *uint256.Int) (v uint8, r, s [32]byte,
	err error) {
	kind := func(text string) abi.Argument {
		t, kindErr := abi.NewType(text, "", nil)
		if kindErr != nil {
			err = kindErr
		}
		return abi.Argument{Type: t}
	}
	hash, number, address := kind("bytes32"), kind("uint256"), kind("address")
	pack := func(kinds abi.Arguments, values ...any) common.Hash {
		raw, packErr := kinds.Pack(values...)
		if packErr != nil {
			err = packErr
		}
		return crypto.Keccak256Hash(raw)
	}
	domain := pack(abi.Arguments{hash, hash, hash, number, address},
		crypto.Keccak256Hash([]byte("EIP712Domain(string name,string version,uint256 chainId,"+
			"address verifyingContract)")),
		crypto.Keccak256Hash([]byte(debtName("USDC"))), crypto.Keccak256Hash([]byte("1")),
		new(big.Int).SetUint64(chainID), defiAddresses()["borrowed USDC"])
	message := pack(abi.Arguments{hash, address, number, number, number},
		crypto.Keccak256Hash([]byte("DelegationWithSig(address delegatee,uint256 value,uint256 nonce,"+
			"uint256 deadline)")),
		to, amount.ToBig(), new(big.Int), new(uint256.Int).SetAllOne().ToBig())
	if err != nil {
		return 0, r, s, fmt.Errorf("chain: delegation: %w", err)
	}
	digest := crypto.Keccak256([]byte("\x19\x01"), domain[:], message[:])
	sig, err := crypto.Sign(digest, owner.key)
	if err != nil {
		return 0, r, s, fmt.Errorf("chain: delegation: %w", err)
	}
	return sig[crypto.RecoveryIDOffset] + 27, [32]byte(sig[:32]), [32]byte(sig[32:64]), nil
}
