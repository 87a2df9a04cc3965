package chain_test

import (
	"context"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

// convert turns the anonymous structs that abi makes into named ones.
func convert[T any](v any) *T {
	return abi.ConvertType(v, new(T)).(*T)
}

func TestTransferLogsAddUpToTheBalance(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	logs, err := r.FilterLogs(t.Context(), ethereum.FilterQuery{
		FromBlock: big.NewInt(0),
		Topics:    [][]common.Hash{{crypto.Keccak256Hash([]byte("Transfer(address,address,uint256)"))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	type position struct{ token, holder common.Address }
	sums := map[position]*uint256.Int{}
	at := func(token common.Address, topic common.Hash) *uint256.Int {
		p := position{token, common.BytesToAddress(topic[12:])}
		if sums[p] == nil {
			sums[p] = new(uint256.Int)
		}
		return sums[p]
	}
	for _, l := range logs {
		amount := new(uint256.Int).SetBytes(l.Data)
		from, to := at(l.Address, l.Topics[1]), at(l.Address, l.Topics[2])
		if l.Topics[1] != (common.Hash{}) {
			from.Sub(from, amount)
		}
		to.Add(to, amount)
	}
	if len(logs) < 50 {
		t.Fatalf("only %d logs", len(logs))
	}
	for p, sum := range sums {
		if p.holder == (common.Address{}) {
			continue
		}
		if have := r.balance(p.holder, p.token, nil); !have.Eq(sum) {
			t.Errorf("%s of token %s has %s, its logs say %s", p.holder, p.token, have, sum)
		}
	}
}

func TestTokensDescribeThemselves(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	for _, tk := range c.Tokens() {
		var name, symbol string
		var decimals uint8
		var supply *big.Int
		r.call(tk.Address, nil, &name, "name")
		r.call(tk.Address, nil, &symbol, "symbol")
		r.call(tk.Address, nil, &decimals, "decimals")
		r.call(tk.Address, nil, &supply, "totalSupply")
		if name != tk.Name || symbol != tk.Symbol || decimals != tk.Decimals || supply.Cmp(tk.Supply.ToBig()) != 0 {
			t.Errorf("have %s (%s), %d decimals, supply %s; want %+v", name, symbol, decimals, supply, tk)
		}
	}
}

func TestHeadSafeAndFinalizedStandInOrder(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	head := c.Head().Number
	for tag, want := range map[rpc.BlockNumber]uint64{
		rpc.LatestBlockNumber: head, rpc.SafeBlockNumber: head - 1, rpc.FinalizedBlockNumber: head - 2,
		rpc.EarliestBlockNumber: 0,
	} {
		header, err := r.HeaderByNumber(t.Context(), big.NewInt(tag.Int64()))
		if err != nil {
			t.Errorf("%s: %v", tag, err)
		} else if header.Number.Uint64() != want {
			t.Errorf("%s is block %s, want %d", tag, header.Number, want)
		}
	}
	if progress, err := r.SyncProgress(t.Context()); err != nil || progress != nil {
		t.Errorf("syncing: %v, %v; want not syncing", progress, err)
	}
	if id, err := r.ChainID(t.Context()); err != nil || id.Uint64() != c.ChainID() {
		t.Errorf("chain id %v, %v", id, err)
	}
	if peers, err := r.PeerCount(t.Context()); err != nil || peers != 0 {
		t.Errorf("%d peers, %v", peers, err)
	}
}

func TestRawTransactionsAreMinedInTheNextBlockAlsoBesideAFailingOne(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	r := dial(t, c)
	faucet, usdc := c.Cast().Faucet, token(t, c, "USDC").Address
	signer := types.LatestSignerForChainID(new(big.Int).SetUint64(c.ChainID()))
	send := func(nonce uint64, amount *big.Int) common.Hash {
		tx, err := types.SignNewTx(faucet.Key(), signer, &types.DynamicFeeTx{
			ChainID: signer.ChainID(), Nonce: nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9),
			Gas: 90_000, To: &usdc, Data: r.pack("transfer", c.Cast().Others[0].Address, amount),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.SendTransaction(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		return tx.Hash()
	}
	first := send(0, big.NewInt(5))
	second := send(1, new(uint256.Int).SetAllOne().ToBig()) // more than there is
	third := send(2, big.NewInt(7))
	mine(t, c)
	for hash, want := range map[common.Hash]uint64{first: 1, second: 0, third: 1} {
		receipt, err := r.TransactionReceipt(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Status != want || receipt.BlockNumber.Uint64() != c.Head().Number {
			t.Errorf("status %d in block %s; want %d in %d", receipt.Status, receipt.BlockNumber, want,
				c.Head().Number)
		}
	}
}

func TestThePlanGoesOnAfterHistoryEnds(t *testing.T) {
	t.Parallel()
	now := newClock(anchor())
	c := start(t, func(o *chain.Options) { o.Now = now.Now })
	r := dial(t, c)
	before := c.Head()
	now.Advance(10*time.Hour + 12*time.Second)
	mine(t, c)
	head := c.Head()
	if head.Number != before.Number+11 || !head.Time.Equal(now.Now()) {
		t.Fatalf("head is block %d at %s; want ten hourly blocks and one at %s", head.Number, head.Time, now.Now())
	}
	for symbol, asset := range assets(c) {
		for _, holder := range c.Holders() {
			if have, want := r.balance(holder, asset, nil), c.Expected(holder, asset, head.Time); !have.Eq(want) {
				t.Errorf("%s has %s %s, the plan says %s", holder, have, symbol, want)
			}
		}
	}
}

func TestBlocksAreMinedOnEveryTick(t *testing.T) {
	t.Parallel()
	now, ticks := newClock(anchor()), make(chan time.Time)
	c := start(t, func(o *chain.Options) { o.Now, o.Ticks, o.History = now.Now, ticks, shortHistory })
	before := c.Head()
	for range 3 {
		now.Advance(12 * time.Second)
		ticks <- now.Now()
	}
	// The third tick was taken, so the first two blocks are made.
	if head := c.Head(); head.Number < before.Number+2 {
		t.Errorf("head is %d after three ticks, was %d", head.Number, before.Number)
	}
}

func TestABlockIsMinedAlsoIfTheClockStopsOrGoesBack(t *testing.T) {
	t.Parallel()
	now := newClock(anchor())
	c := start(t, func(o *chain.Options) { o.Now, o.History = now.Now, shortHistory })
	mine(t, c)
	now.Advance(-time.Hour)
	mine(t, c)
	if want := anchor().Add(2 * time.Second); !c.Head().Time.Equal(want) {
		t.Errorf("head is at %s, want %s", c.Head().Time, want)
	}
}

func TestOnlyTheReadingNamespacesAreServed(t *testing.T) {
	t.Parallel()
	c := shared(t)
	client, err := rpc.DialContext(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	modules, err := client.SupportedModules()
	if err != nil {
		t.Fatal(err)
	}
	for module := range modules {
		if !slices.Contains([]string{"eth", "net", "web3", "rpc"}, module) {
			t.Errorf("module %s is served", module)
		}
	}
	if err := client.CallContext(t.Context(), nil, "admin_nodeInfo"); err == nil {
		t.Error("admin_nodeInfo was answered")
	}
}

func TestOtherAddressesThanLoopbackAreRefused(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:8545"} {
		_, err := chain.Start(t.Context(), chain.Options{Dir: t.TempDir(), HTTPAddr: addr})
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestABusyPortIsReported(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = chain.Start(t.Context(), chain.Options{
		Dir: t.TempDir(), Anchor: anchor(), Now: newClock(anchor()).Now, History: time.Hour,
		HTTPAddr: l.Addr().String(),
	})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("have %v, want an error that names the address", err)
	}
}
