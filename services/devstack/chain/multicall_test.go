package chain_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

// call3 and result are Multicall3's structs, as abi names their fields.
type call3 struct {
	Target       common.Address
	AllowFailure bool
	CallData     []byte
}

type result struct {
	Success    bool
	ReturnData []byte
}

// multicall calls a method of Multicall3 at a block and returns its results.
func (r reader) multicall(block *big.Int, method string, args ...any) ([]any, error) {
	r.t.Helper()
	multicall := artifact(r.t, "Multicall3").ABI
	input, err := multicall.Pack(method, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	to := chain.MulticallAddress()
	raw, err := r.CallContract(r.t.Context(), ethereum.CallMsg{To: &to, Data: input}, block)
	if err != nil {
		return nil, err
	}
	out, err := multicall.Unpack(method, raw)
	if err != nil {
		r.t.Fatal(err)
	}
	return out, nil
}

func (r reader) pack(method string, args ...any) []byte {
	r.t.Helper()
	data, err := r.erc20.ABI.Pack(method, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

func TestMulticallReadsEveryBalanceInOneCallAtAPastBlock(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	holders := append(c.Holders(), c.Cast().Vault.Address)
	block := new(big.Int).SetUint64(c.Head().Number / 2)
	at := c.Plan().At(int(block.Int64())) // block n is step n here

	var calls []call3
	var want []*uint256.Int
	for _, holder := range holders {
		for _, tk := range c.Tokens() {
			calls = append(calls, call3{tk.Address, false, r.pack("balanceOf", holder)})
			want = append(want, c.Expected(holder, tk.Address, at))
		}
		ether, err := artifact(t, "Multicall3").ABI.Pack("getEthBalance", holder)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call3{chain.MulticallAddress(), false, ether})
		want = append(want, c.Expected(holder, chain.Native(), at))
	}
	out, err := r.multicall(block, "aggregate3", calls)
	if err != nil {
		t.Fatal(err)
	}
	results := *convert[[]result](out[0])
	if len(results) != len(want) {
		t.Fatalf("%d results for %d calls", len(results), len(want))
	}
	for i, res := range results {
		if have := new(uint256.Int).SetBytes(res.ReturnData); !res.Success || !have.Eq(want[i]) {
			t.Errorf("call %d: success %t, %s; want %s", i, res.Success, have, want[i])
		}
	}
}

func TestMulticallFailuresAreAllowedOnlyWhereTheCallSaysSo(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	usdc := token(t, c, "USDC").Address
	good := call3{usdc, false, r.pack("balanceOf", c.Cast().Alice.Address)}
	bad := call3{usdc, true, r.pack("transfer", c.Cast().Bob.Address, big.NewInt(1))} // the caller has nothing

	out, err := r.multicall(nil, "aggregate3", []call3{good, bad})
	if err != nil {
		t.Fatal(err)
	}
	if res := *convert[[]result](out[0]); !res[0].Success || res[1].Success {
		t.Errorf("have success %t and %t, want true and false", res[0].Success, res[1].Success)
	}
	bad.AllowFailure = false
	if _, err := r.multicall(nil, "aggregate3", []call3{good, bad}); err == nil {
		t.Error("a failure that isn't allowed went through aggregate3")
	}

	type call struct {
		Target   common.Address
		CallData []byte
	}
	both := []call{{good.Target, good.CallData}, {bad.Target, bad.CallData}}
	if _, err := r.multicall(nil, "aggregate", both); err == nil {
		t.Error("a failure went through aggregate")
	}
	if _, err := r.multicall(nil, "tryAggregate", true, both); err == nil {
		t.Error("a failure went through tryAggregate with requireSuccess")
	}
	if _, err := r.multicall(nil, "blockAndAggregate", both); err == nil {
		t.Error("a failure went through blockAndAggregate")
	}
	out, err = r.multicall(nil, "tryBlockAndAggregate", false, both)
	if err != nil {
		t.Fatal(err)
	}
	if number := out[0].(*big.Int); number.Uint64() != c.Head().Number {
		t.Errorf("block number %s, want %d", number, c.Head().Number)
	}
	if res := *convert[[]result](out[2]); !res[0].Success || res[1].Success {
		t.Errorf("tryBlockAndAggregate: %+v", res)
	}
}

func TestMulticallReturnsBlockProperties(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	head := c.Head()
	parent, err := r.HeaderByNumber(t.Context(), new(big.Int).SetUint64(head.Number-1))
	if err != nil {
		t.Fatal(err)
	}
	header, err := r.HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, question := range []struct {
		method string
		args   []any
		want   any
	}{
		{"getBlockNumber", nil, new(big.Int).SetUint64(head.Number)},
		{"getCurrentBlockTimestamp", nil, big.NewInt(head.Time.Unix())},
		{"getChainId", nil, big.NewInt(31337)},
		{"getCurrentBlockCoinbase", nil, header.Coinbase},
		{"getCurrentBlockGasLimit", nil, new(big.Int).SetUint64(header.GasLimit)},
		{"getCurrentBlockDifficulty", nil, new(big.Int)},
		{"getLastBlockHash", nil, [32]byte(parent.Hash())},
		{"getBlockHash", []any{new(big.Int).SetUint64(head.Number - 1)}, [32]byte(parent.Hash())},
		{"getEthBalance", []any{c.Cast().Alice.Address},
			r.balance(c.Cast().Alice.Address, chain.Native(), nil).ToBig()},
	} {
		out, err := r.multicall(nil, question.method, question.args...)
		if err != nil {
			t.Errorf("%s: %v", question.method, err)
			continue
		}
		if have, ok := out[0].(*big.Int); ok {
			if have.Cmp(question.want.(*big.Int)) != 0 {
				t.Errorf("%s = %s, want %s", question.method, have, question.want)
			}
		} else if out[0] != question.want {
			t.Errorf("%s = %v, want %v", question.method, out[0], question.want)
		}
	}
	// An eth_call is free, so the base fee that the contract sees is zero.
	if _, err := r.multicall(nil, "getBasefee"); err != nil {
		t.Errorf("getBasefee: %v", err)
	}
}
