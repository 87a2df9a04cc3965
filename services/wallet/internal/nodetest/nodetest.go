// Package nodetest runs real nodes and contracts for tests: pinned npm packages that others
// have written, fetched into an ignored folder.
package nodetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// packages is the folder of the npm packages. The test is skipped where npm is missing.
func packages(t testing.TB) string {
	t.Helper()
	folder := "testdata/nodes"
	for range 4 { // up to that of the module
		if _, err := os.Stat(folder); err == nil {
			break
		}
		folder = filepath.Join("..", folder)
	}
	return servicetest.NPM(t, folder, "chain-nodes", "real nodes of chains")
}

// Node is a node that others have written, of a new chain 1 of its own.
type Node struct {
	*rpc.Client
	URL string
}

// Holder is the first account of anvil and hardhat, which has 10,000 ether.
var Holder = common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")

// Start runs anvil or hardhat until the test ends. It skips the test where npm is missing.
func Start(t *testing.T, kind string) Node {
	t.Helper()
	dir := packages(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	var cmd *exec.Cmd
	ctx, stop := context.WithCancel(context.Background())
	switch kind {
	case "anvil":
		found, err := filepath.Glob(filepath.Join(dir, "node_modules/@foundry-rs/anvil-*/bin/anvil*"))
		if err != nil || len(found) == 0 {
			stop()
			t.Skip("npm has no anvil for this system, so it is not tried")
		}
		cmd = exec.CommandContext(ctx, found[0], "--silent", "--chain-id", "1", "--port", port)
	case "hardhat":
		project := t.TempDir()
		config := `module.exports = {solidity: "0.8.24", networks: {hardhat: {chainId: 1}}}`
		if err := os.WriteFile(filepath.Join(project, "hardhat.config.js"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(project, "node_modules")); err != nil {
			t.Fatal(err)
		}
		cmd = exec.CommandContext(ctx, "node", "node_modules/hardhat/internal/cli/bootstrap.js", "node", "--port",
			port)
		cmd.Dir = project
		cmd.Env = append(os.Environ(), "HARDHAT_DISABLE_TELEMETRY_PROMPT=true", "CI=true", "HOME="+project)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	n := Node{URL: "http://127.0.0.1:" + port}
	if n.Client, err = rpc.DialContext(t.Context(), n.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	testkit.Eventually(t, 60*time.Second, func() bool {
		var id hexutil.Uint64
		return n.CallContext(t.Context(), &id, "eth_chainId") == nil && id == 1
	})
	return n
}

// Kinds of nodes.
func Kinds() []string { return []string{"anvil", "hardhat"} }

// Send makes a transaction of an account that the node has unlocked, and returns its hash
// once it is mined.
func (n Node) Send(t testing.TB, from common.Address, to *common.Address, data []byte, value uint64) common.Hash {
	t.Helper()
	tx := map[string]any{"from": from, "data": hexutil.Bytes(data), "value": hexutil.Uint64(value)}
	if to != nil {
		tx["to"] = to
	}
	var hash common.Hash
	n.Call(t, &hash, "eth_sendTransaction", tx)
	return hash
}

// Call makes a JSON-RPC call that must succeed.
func (n Node) Call(t testing.TB, result any, method string, args ...any) {
	t.Helper()
	if err := n.CallContext(t.Context(), result, method, args...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// Deploy creates the contract of a compiled artifact of @openzeppelin/contracts, such as
// "ERC20PresetFixedSupply", with the ABI-encoded arguments of its constructor.
func (n Node) Deploy(t testing.TB, from common.Address, artifact string, args []byte) common.Address {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(packages(t), "node_modules/@openzeppelin/contracts/build/contracts",
		artifact+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var compiled struct {
		Bytecode hexutil.Bytes `json:"bytecode"`
	}
	if err := json.Unmarshal(body, &compiled); err != nil {
		t.Fatal(err)
	}
	return n.Create(t, from, append(compiled.Bytecode, args...))
}

// Create creates a contract by its code.
func (n Node) Create(t testing.TB, from common.Address, code []byte) common.Address {
	t.Helper()
	var receipt *struct {
		ContractAddress common.Address `json:"contractAddress"`
	}
	hash := n.Send(t, from, nil, code, 0)
	testkit.Eventually(t, 20*time.Second, func() bool {
		n.Call(t, &receipt, "eth_getTransactionReceipt", hash)
		return receipt != nil
	})
	return receipt.ContractAddress
}
