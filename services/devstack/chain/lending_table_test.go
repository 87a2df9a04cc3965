package chain_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

// lendingTable is testdata/lending_steps.json.
type lendingTable struct {
	Reserves []lendingReserve
	Steps    []lendingStep
}

type lendingReserve struct {
	Symbol                        string
	LTV, Threshold, Bonus         uint64
	Treasury                      uint64
	Optimal, Base, Slope1, Slope2 uint64
}

type lendingStep struct {
	Wait                       int64
	By, Do, For, Asset, Amount string
	Refused                    string
}

func (s lendingStep) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s", s.By, s.Do, s.Amount, s.Asset, s.For)), " ")
}

func readLendingTable(t *testing.T) (table lendingTable) {
	t.Helper()
	readJSON(t, "lending_steps.json", &table)
	return table
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// lendingAnswer is what a pool says after a step, in words: numbers, and contracts and accounts by their names.
type lendingAnswer struct {
	Step    string
	Time    int64
	Refused string            `json:",omitempty"`
	Events  []string          `json:",omitempty"`
	Reads   map[string]string // by what is read
}

// lendingRun carries out the table on a pool that it is given.
type lendingRun struct {
	reader
	chain *chain.Chain
	clock *clock
	table lendingTable
	// users are by name; "admin" deploys.
	users map[string]chain.Account
	nonce map[common.Address]uint64
	pool  common.Address
	// names are those of accounts and contracts, by address.
	names map[common.Address]string
}

// newLendingRun starts a chain of few blocks, and gives the users ether and tokens.
func newLendingRun(t *testing.T) *lendingRun {
	t.Helper()
	now := newClock(anchor())
	c := start(t, func(o *chain.Options) {
		o.Now, o.BlockEvery, o.History = now.Now, 24*time.Hour, 48*time.Hour
	})
	cast := c.Cast()
	r := &lendingRun{reader: dial(t, c), chain: c, clock: now, table: readLendingTable(t),
		users: map[string]chain.Account{"whale": cast.Others[0], "ann": cast.Others[1], "ben": cast.Others[2],
			"admin": cast.Others[3]},
		nonce: map[common.Address]uint64{}, names: map[common.Address]string{{}: "nobody"}}
	for name, user := range r.users {
		r.names[user.Address] = name
	}
	for _, name := range slices.Sorted(maps.Keys(r.users)) {
		r.fund(name, chain.Native(), 100, 18)
		for _, reserve := range r.table.Reserves {
			token := token(t, c, reserve.Symbol)
			r.fund(name, token.Address, 2_000, token.Decimals)
		}
	}
	for symbol, amount := range map[string]uint64{"USDC": 2_000_000, "DAI": 500_000} {
		token := token(t, c, symbol)
		r.fund("whale", token.Address, amount, token.Decimals)
		r.fund("ben", token.Address, amount, token.Decimals)
	}
	for _, reserve := range r.table.Reserves {
		r.names[token(t, c, reserve.Symbol).Address] = reserve.Symbol
	}
	mine(t, c)
	return r
}

func (r *lendingRun) fund(name string, asset common.Address, whole uint64, decimals uint8) {
	r.t.Helper()
	if _, err := r.chain.Fund(r.t.Context(), r.users[name].Address, asset, tokens(whole, decimals)); err != nil {
		r.t.Fatal(err)
	}
}

// tokens is so many whole tokens in base units.
func tokens(whole uint64, decimals uint8) *uint256.Int {
	scale := new(uint256.Int).Exp(uint256.NewInt(10), uint256.NewInt(uint64(decimals)))
	return scale.Mul(scale, uint256.NewInt(whole))
}

// submit sends a transaction of a user without a block; to is nil for a new contract.
func (r *lendingRun) submit(by string, to *common.Address, data []byte) *types.Transaction {
	r.t.Helper()
	from := r.users[by]
	tx, err := types.SignNewTx(from.Key(), types.LatestSignerForChainID(new(big.Int).SetUint64(r.chain.ChainID())),
		&types.LegacyTx{Nonce: r.nonce[from.Address], GasPrice: big.NewInt(1e9), Gas: 9_000_000, To: to, Data: data})
	if err != nil {
		r.t.Fatal(err)
	}
	r.nonce[from.Address]++
	if err := r.SendTransaction(r.t.Context(), tx); err != nil {
		r.t.Fatal(err)
	}
	return tx
}

func (r *lendingRun) receipt(tx *types.Transaction) *types.Receipt {
	r.t.Helper()
	receipt, err := r.TransactionReceipt(r.t.Context(), tx.Hash())
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt
}

// must sends a transaction of the admin that has to succeed.
func (r *lendingRun) must(what string, to *common.Address, data []byte) *types.Receipt {
	r.t.Helper()
	tx := r.submit("admin", to, data)
	mine(r.t, r.chain)
	receipt := r.receipt(tx)
	if receipt.Status != types.ReceiptStatusSuccessful {
		r.t.Fatalf("%s failed: %s", what, r.reason(r.users["admin"].Address, to, data))
	}
	return receipt
}

// reason is why a call reverts at the newest block; "" if it doesn't.
func (r *lendingRun) reason(from common.Address, to *common.Address, data []byte) string {
	_, err := r.CallContract(r.t.Context(), ethereum.CallMsg{From: from, To: to, Data: data}, nil)
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "execution reverted: ")
}

// read calls a method of a signature such as "balanceOf(address)" with words, and returns the words of the answer.
func (r *lendingRun) read(to common.Address, signature string, args ...common.Hash) []common.Hash {
	r.t.Helper()
	raw, err := r.CallContract(r.t.Context(), ethereum.CallMsg{To: &to, Data: callData(signature, args...)}, nil)
	if err != nil || len(raw)%32 != 0 || len(raw) == 0 {
		r.t.Fatalf("%s of %s: %x, %v", signature, to, raw, err)
	}
	return words(raw)
}

func words(raw []byte) (all []common.Hash) {
	for ; len(raw) >= 32; raw = raw[32:] {
		all = append(all, common.Hash(raw[:32]))
	}
	return all
}

func callData(signature string, args ...common.Hash) []byte {
	data := crypto.Keccak256([]byte(signature))[:4]
	for _, a := range args {
		data = append(data, a[:]...)
	}
	return data
}

func word(a common.Address) common.Hash { return common.BytesToHash(a[:]) }

func number(n uint64) common.Hash { return common.BigToHash(new(big.Int).SetUint64(n)) }

// list prepares the names of the pool's tokens and allows the pool to take everybody's assets.
func (r *lendingRun) list(pool common.Address) {
	r.t.Helper()
	r.pool, r.names[pool] = pool, "pool"
	for _, reserve := range r.table.Reserves {
		asset := token(r.t, r.chain, reserve.Symbol).Address
		data := r.read(pool, "getReserveData(address)", word(asset))
		for i, name := range []string{"supplied ", "stable ", "borrowed ", "rates "} {
			r.names[common.BytesToAddress(data[8+i][:])] = name + reserve.Symbol
		}
		for _, name := range slices.Sorted(maps.Keys(r.users)) {
			unlimited := common.Hash(new(uint256.Int).SetAllOne().Bytes32())
			r.submit(name, &asset, callData("approve(address,uint256)", word(pool), unlimited))
		}
	}
	mine(r.t, r.chain)
}

// run carries out the steps from noon of the day after the anchor.
func (r *lendingRun) run() []lendingAnswer {
	r.t.Helper()
	r.clock.Advance(anchor().Add(21 * time.Hour).Sub(r.clock.Now()))
	var answers []lendingAnswer
	for _, s := range r.table.Steps {
		answers = append(answers, r.step(s))
	}
	return answers
}

func (r *lendingRun) step(s lendingStep) lendingAnswer {
	r.t.Helper()
	r.clock.Advance(time.Duration(s.Wait) * time.Second)
	answer := lendingAnswer{Step: s.String()}
	to, data := r.call(s)
	if data == nil {
		mine(r.t, r.chain)
	} else {
		tx := r.submit(s.By, &to, data)
		mine(r.t, r.chain)
		receipt := r.receipt(tx)
		if receipt.Status != types.ReceiptStatusSuccessful {
			answer.Refused = r.reason(r.users[s.By].Address, &to, data)
		}
		for _, l := range receipt.Logs {
			answer.Events = append(answer.Events, r.event(l))
		}
		slices.Sort(answer.Events)
	}
	if at := r.chain.Head().Time; !at.Equal(r.clock.Now()) {
		r.t.Fatalf("%s is at %s, want %s", s, at, r.clock.Now())
	}
	answer.Time = r.chain.Head().Time.Unix()
	answer.Reads = r.reads()
	return answer
}

// call is what a step sends; nothing for a look.
func (r *lendingRun) call(s lendingStep) (common.Address, []byte) {
	r.t.Helper()
	if s.Do == "look" {
		return common.Address{}, nil
	}
	by, whom := word(r.users[s.By].Address), word(r.users[s.By].Address)
	if s.For != "" {
		whom = word(r.users[s.For].Address)
	}
	t := token(r.t, r.chain, s.Asset)
	asset, amount, none := word(t.Address), r.amount(s.Amount, t.Decimals), common.Hash{}
	switch s.Do {
	case "supply":
		return r.pool, callData("supply(address,uint256,address,uint16)", asset, amount, whom, none)
	case "withdraw":
		return r.pool, callData("withdraw(address,uint256,address)", asset, amount, by)
	case "borrow":
		return r.pool, callData("borrow(address,uint256,uint256,uint16,address)", asset, amount, number(2), none, whom)
	case "repay":
		return r.pool, callData("repay(address,uint256,uint256,address)", asset, amount, number(2), whom)
	case "collateral", "no collateral":
		on := number(map[string]uint64{"collateral": 1}[s.Do])
		return r.pool, callData("setUserUseReserveAsCollateral(address,bool)", asset, on)
	case "treasury":
		return r.pool, callData("mintToTreasury(address[])", number(32), number(1), asset)
	case "send":
		data := r.read(r.pool, "getReserveData(address)", asset)
		return common.BytesToAddress(data[8][:]), callData("transfer(address,uint256)", whom, amount)
	}
	r.t.Fatalf("unknown step %s", s)
	return common.Address{}, nil
}

// amount is a decimal of whole tokens in base units.
func (r *lendingRun) amount(decimal string, decimals uint8) common.Hash {
	r.t.Helper()
	switch decimal {
	case "":
		return common.Hash{}
	case "all":
		return new(uint256.Int).SetAllOne().Bytes32()
	}
	whole, ok := new(big.Rat).SetString(decimal)
	if !ok {
		r.t.Fatalf("amount %q", decimal)
	}
	whole.Mul(whole, new(big.Rat).SetInt(tokens(1, decimals).ToBig()))
	if !whole.IsInt() {
		r.t.Fatalf("amount %q has too many decimals", decimal)
	}
	return common.BigToHash(whole.Num())
}

// reads is everything that an adapter of the pool could read now.
func (r *lendingRun) reads() map[string]string {
	r.t.Helper()
	reads := map[string]string{}
	for _, reserve := range r.table.Reserves {
		asset := token(r.t, r.chain, reserve.Symbol).Address
		data := r.read(r.pool, "getReserveData(address)", word(asset))
		reads[reserve.Symbol] = r.say(data)
		reads[reserve.Symbol+" now"] = r.say(slices.Concat(r.read(r.pool, "getConfiguration(address)", word(asset)),
			r.read(r.pool, "getReserveNormalizedIncome(address)", word(asset)),
			r.read(r.pool, "getReserveNormalizedVariableDebt(address)", word(asset))))
		supplied, borrowed := common.BytesToAddress(data[8][:]), common.BytesToAddress(data[10][:])
		for _, name := range []string{"whale", "ann", "ben"} {
			user := word(r.users[name].Address)
			reads[name+" "+reserve.Symbol] = r.say(slices.Concat(
				r.read(supplied, "balanceOf(address)", user), r.read(supplied, "scaledBalanceOf(address)", user),
				r.read(borrowed, "balanceOf(address)", user), r.read(borrowed, "scaledBalanceOf(address)", user),
				r.read(asset, "balanceOf(address)", user)))
		}
		reads[reserve.Symbol+" totals"] = r.say(slices.Concat(r.read(supplied, "totalSupply()"),
			r.read(supplied, "scaledTotalSupply()"), r.read(borrowed, "totalSupply()"),
			r.read(borrowed, "scaledTotalSupply()"), r.read(asset, "balanceOf(address)", word(supplied))))
	}
	for _, name := range []string{"whale", "ann", "ben"} {
		user := word(r.users[name].Address)
		reads[name] = r.say(slices.Concat(r.read(r.pool, "getUserAccountData(address)", user),
			r.read(r.pool, "getUserConfiguration(address)", user)))
	}
	reads["list"] = r.say(r.read(r.pool, "getReservesList()"))
	return reads
}

// event says an event without the signature's indexes: its contract, its signature's hash, and its words.
func (r *lendingRun) event(l *types.Log) string {
	all := slices.Concat(l.Topics[1:], words(l.Data))
	return fmt.Sprintf("%s %x %s", r.names[l.Address], l.Topics[0][:4], r.say(all))
}

// say gives addresses their names and everything else its number.
func (r *lendingRun) say(all []common.Hash) string {
	var said []string
	for _, w := range all {
		name, known := r.names[common.BytesToAddress(w[:])]
		if known && w != (common.Hash{}) && w.Big().BitLen() > 128 {
			said = append(said, name)
			continue
		}
		said = append(said, w.Big().String())
	}
	return strings.Join(said, " ")
}
