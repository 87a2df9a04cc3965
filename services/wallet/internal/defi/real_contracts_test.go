package defi_test

import (
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// compiled is a contract that others have written, as their compiler left it: an artifact of Hardhat or Truffle.
type compiled struct {
	ABI            abi.ABI `json:"abi"`
	Bytecode       string  `json:"bytecode"`
	LinkReferences map[string]map[string][]struct{ Start int }
	folder         string // of its package's artifacts, where those of the libraries are
}

// network is a real node with contracts on it.
type network struct {
	servicetest.Node
	libraries map[string]common.Address // by the folder and name of their artifact
}

// contract is one on a network.
type contract struct {
	*network
	abi.ABI
	common.Address
}

func startNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{Node: servicetest.StartNode(t, "anvil"), libraries: map[string]common.Address{}}
	n.Call(t, new(any), "anvil_setCode", chain.Multicall3, multicall3(t))
	return n
}

func multicall3(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash("../../../devstack/chain/artifacts/Multicall3.json"))
	if err != nil {
		t.Fatal(err)
	}
	var artifact struct{ Runtime string }
	if err := json.Unmarshal(text, &artifact); err != nil {
		t.Fatal(err)
	}
	return artifact.Runtime
}

func readCompiled(t *testing.T, text []byte) (c compiled) {
	t.Helper()
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// aave is the path of an artifact of @aave/core-v3, by that of its source without its name.
func aave(folder, name string) string {
	return "@aave/core-v3/artifacts/contracts/" + folder + "/" + name + ".sol/" + name + ".json"
}

// create deploys a published artifact, and the libraries that it is linked with.
func (n *network) create(t *testing.T, path string, args ...any) contract {
	t.Helper()
	text, err := os.ReadFile(servicetest.PackageFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	c := readCompiled(t, text)
	if before, _, ok := strings.Cut(path, "/artifacts/"); ok {
		c.folder = before + "/artifacts/"
	}
	return n.deploy(t, c, args...)
}

func (n *network) deploy(t *testing.T, c compiled, args ...any) contract {
	t.Helper()
	code := []byte(strings.TrimPrefix(c.Bytecode, "0x"))
	for source, names := range c.LinkReferences {
		for name, places := range names {
			path := c.folder + source + "/" + name + ".json"
			if _, done := n.libraries[path]; !done {
				n.libraries[path] = n.create(t, path).Address
			}
			for _, p := range places {
				copy(code[2*p.Start:], hex.EncodeToString(n.libraries[path].Bytes()))
			}
		}
	}
	raw, err := hex.DecodeString(string(code))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := c.ABI.Pack("", args...)
	if err != nil {
		t.Fatal(err)
	}
	address := n.Create(t, servicetest.NodeHolder, append(raw, packed...))
	return contract{n, c.ABI, common.HexToAddress(address)}
}

// at is the contract of a published artifact that is at an address.
func (n *network) at(t *testing.T, path string, address common.Address) contract {
	t.Helper()
	text, err := os.ReadFile(servicetest.PackageFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return contract{n, readCompiled(t, text).ABI, address}
}

// send makes a transaction of an account, and fails the test unless it succeeds.
func (c contract) send(t *testing.T, from common.Address, method string, args ...any) {
	t.Helper()
	data, err := c.Pack(method, args...)
	if err != nil {
		t.Fatal(err)
	}
	hash := c.Send(t, from.Hex(), c.Hex(), data, 0)
	var receipt struct{ Status string }
	c.Call(t, &receipt, "eth_getTransactionReceipt", hash)
	if receipt.Status != "0x1" {
		c.ask(t, c.newest(t), from, method, args...) // says why
		t.Fatalf("%s failed, and would not in the next block", method)
	}
}

// ask is what a call would return in a block: nothing is changed.
func (c contract) ask(t *testing.T, at block.Block, from common.Address, method string, args ...any) []any {
	t.Helper()
	data, err := c.Pack(method, args...)
	if err != nil {
		t.Fatal(err)
	}
	var reply hexutil.Bytes
	c.Call(t, &reply, "eth_call", map[string]any{"from": from, "to": c.Address, "input": hexutil.Bytes(data)},
		hexutil.EncodeUint64(at.Number))
	values, err := c.Unpack(method, reply)
	if err != nil {
		t.Fatalf("%s of %s: %d bytes of an answer: %v", method, c.Address, len(reply), err)
	}
	return values
}

// gain is how much of a token a holder gets by what do does: transactions, which are undone.
func (n *network) gain(t *testing.T, token contract, holder common.Address, do func()) string {
	t.Helper()
	var snapshot string
	n.Call(t, &snapshot, "evm_snapshot")
	before := token.ask(t, n.newest(t), holder, "balanceOf", holder)[0].(*big.Int)
	do()
	after := token.ask(t, n.newest(t), holder, "balanceOf", holder)[0].(*big.Int)
	var undone bool
	if n.Call(t, &undone, "evm_revert", snapshot); !undone {
		t.Fatal("the transactions are not undone")
	}
	return after.Sub(after, before).String()
}

// number is the first value that a call would return.
func (c contract) number(t *testing.T, at block.Block, from common.Address, method string, args ...any) string {
	t.Helper()
	return c.ask(t, at, from, method, args...)[0].(*big.Int).String()
}

// account is one of the node, from 0, which the node has unlocked.
func (n *network) account(t *testing.T, i int) common.Address {
	t.Helper()
	var all []common.Address
	n.Call(t, &all, "eth_accounts")
	return all[i]
}

// later mines a block a time after the newest.
func (n *network) later(t *testing.T, by time.Duration) {
	t.Helper()
	n.Call(t, new(any), "evm_increaseTime", int(by.Seconds()))
	n.Call(t, new(any), "evm_mine")
}

func (n *network) newest(t *testing.T) block.Block {
	t.Helper()
	var b struct {
		Number, Timestamp hexutil.Uint64
		Hash              common.Hash
	}
	n.Call(t, &b, "eth_getBlockByNumber", "latest", false)
	return block.Block{Number: uint64(b.Number), Hash: b.Hash, Time: time.Unix(int64(b.Timestamp), 0)}
}

// read reads a market of the network for holders at a block, as the service does.
func (n *network) read(t *testing.T, at block.Block, market string, holders ...common.Address) []defi.Reading {
	t.Helper()
	out := make([]defi.Reading, len(holders))
	for i, readings := range n.readAll(t, at, market, holders...) {
		out[i] = readings[0]
	}
	return out
}

// readAll reads the markets of a setting, and returns the readings by holder.
func (n *network) readAll(t *testing.T, at block.Block, setting string, holders ...common.Address) [][]defi.Reading {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {string(n.Node)}}, ChunkSize: 200, Log: log,
		Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	var markets defi.Markets
	if err := markets.UnmarshalText([]byte(setting)); err != nil {
		t.Fatal(err)
	}
	return defi.NewService(markets, r, log).Read(t.Context(), 1, at, holders)
}

// compile compiles a contract of the test's own beside published ones.
func compile(t *testing.T, name, source string) compiled {
	t.Helper()
	modules := filepath.Dir(filepath.Dir(servicetest.PackageFile(t, "solc/index.js")))
	script := `const solc = require("solc"), fs = require("fs");
const input = {language: "Solidity", sources: {"t.sol": {content: fs.readFileSync(0, "utf8")}}, settings: {
  optimizer: {enabled: true}, outputSelection: {"*": {"*": ["abi", "evm.bytecode.object"]}}}};
const read = path => ({contents: fs.readFileSync(require.resolve(path), "utf8")});
const out = JSON.parse(solc.compile(JSON.stringify(input), {import: read}));
const failed = (out.errors || []).filter(e => e.severity === "error");
if (failed.length) { console.error(failed[0].formattedMessage); process.exit(1); }
const c = out.contracts["t.sol"][process.argv[1]];
console.log(JSON.stringify({abi: c.abi, bytecode: c.evm.bytecode.object}));`
	cmd := exec.CommandContext(t.Context(), "node", "-e", script, name)
	cmd.Dir, cmd.Stdin = filepath.Dir(modules), strings.NewReader(source)
	var failed strings.Builder
	cmd.Stderr = &failed
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, failed.String())
	}
	return readCompiled(t, text)
}
