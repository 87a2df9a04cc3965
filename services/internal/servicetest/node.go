package servicetest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/port"
)

// chainPackages is the folder of nodes and contracts: pinned npm packages that others have
// written, fetched into an ignored folder. The test is skipped where npm is missing.
func chainPackages(t testing.TB) string {
	t.Helper()
	return NPM(t, filepath.Join(checkout(t), "services/wallet/testdata/nodes"), "chain-nodes", "real nodes of chains")
}

// Node is a node that others have written, of a new chain 1 of its own, by its URL.
type Node string

// NodeHolder is the first account of anvil and hardhat, which has 10,000 ether.
const NodeHolder = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"

// StartNode runs anvil or hardhat until the test ends. It skips the test where npm is missing.
func StartNode(t *testing.T, kind string) Node {
	t.Helper()
	n, _ := StartNodeProcess(t, kind)
	return n
}

// StartNodeProcess is StartNode with further arguments of the program. It returns the process too.
func StartNodeProcess(t *testing.T, kind string, more ...string) (Node, *os.Process) {
	t.Helper()
	dir := chainPackages(t)
	free, err := port.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.Itoa(free)
	var cmd *exec.Cmd
	ctx, stop := context.WithCancel(context.Background())
	switch kind {
	case "anvil":
		found, err := filepath.Glob(filepath.Join(dir, "node_modules/@foundry-rs/anvil-*/bin/anvil*"))
		if err != nil || len(found) == 0 {
			stop()
			t.Skip("npm has no anvil for this system, so it is not tried")
		}
		cmd = exec.CommandContext(ctx, found[0], append([]string{"--silent", "--chain-id", "1", "--port", at},
			more...)...)
	case "hardhat":
		project := t.TempDir()
		config := `module.exports = {solidity: "0.8.24", networks: {hardhat: {chainId: 1}}}`
		if err := os.WriteFile(filepath.Join(project, "hardhat.config.js"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(project, "node_modules")); err != nil {
			t.Fatal(err)
		}
		program := []string{"node_modules/hardhat/internal/cli/bootstrap.js", "node", "--port", at}
		cmd = exec.CommandContext(ctx, "node", append(program, more...)...)
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
	n := Node("http://127.0.0.1:" + at)
	testkit.Eventually(t, 60*time.Second, func() bool {
		var id string
		return n.ask(t.Context(), &id, "eth_chainId") == nil && id == "0x1"
	})
	return n, cmd.Process
}

// NodeKinds are the kinds of nodes that StartNode runs.
func NodeKinds() []string { return []string{"anvil", "hardhat"} }

// enoughGas is more than any call here takes and less than a block has. Without it the node estimates, at the time of
// the block before: a pair of Uniswap that is used again in a later second needs more, and the call fails.
const enoughGas = "0xe00000"

// Send makes a transaction of an account that the node has unlocked, waits until it is mined,
// and returns its hash. to is empty for one that creates a contract; value is in wei.
func (n Node) Send(t testing.TB, from, to string, data []byte, value uint64) (hash string) {
	t.Helper()
	tx := map[string]string{"from": from, "data": "0x" + hex.EncodeToString(data),
		"value": fmt.Sprintf("0x%x", value), "gas": enoughGas}
	if to != "" {
		tx["to"] = to
	}
	n.Call(t, &hash, "eth_sendTransaction", tx)
	n.receipt(t, hash)
	return hash
}

// receipt waits for the receipt of a transaction.
func (n Node) receipt(t testing.TB, hash string) (r struct {
	BlockNumber     string `json:"blockNumber"`
	ContractAddress string `json:"contractAddress"`
	Status          string `json:"status"`
}) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		n.Call(t, &r, "eth_getTransactionReceipt", hash)
		return r.BlockNumber != ""
	})
	return r
}

// Call makes a JSON-RPC call that must succeed.
func (n Node) Call(t testing.TB, result any, method string, args ...any) {
	t.Helper()
	if err := n.ask(t.Context(), result, method, args...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

func (n Node) ask(ctx context.Context, result any, method string, args ...any) error {
	if args == nil {
		args = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": args})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(n), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return err
	}
	if reply.Error != nil {
		return fmt.Errorf("the node answers: %s", reply.Error.Message)
	}
	return json.Unmarshal(reply.Result, result)
}

// Deploy creates the contract of a compiled artifact of @openzeppelin/contracts, such as
// "ERC20PresetFixedSupply", with the ABI-encoded arguments of its constructor.
func (n Node) Deploy(t testing.TB, from, artifact string, args []byte) (address string) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(chainPackages(t), "node_modules/@openzeppelin/contracts/build/contracts",
		artifact+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var compiled struct {
		Bytecode string `json:"bytecode"`
	}
	if err := json.Unmarshal(body, &compiled); err != nil {
		t.Fatal(err)
	}
	code, err := hex.DecodeString(strings.TrimPrefix(compiled.Bytecode, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return n.Create(t, from, append(code, args...))
}

// Create creates a contract by its code, and returns its address.
func (n Node) Create(t testing.TB, from string, code []byte) string {
	t.Helper()
	r := n.receipt(t, n.Send(t, from, "", code, 0))
	if r.Status != "0x1" {
		n.Call(t, new(any), "eth_call", map[string]string{"from": from, "data": "0x" + hex.EncodeToString(code)})
		t.Fatal("the contract was not created: its constructor failed, or its code takes more gas than there is")
	}
	return r.ContractAddress
}

// PackageFile is a file of the pinned npm packages of nodes and contracts, by its path below node_modules.
func PackageFile(t testing.TB, path string) string {
	t.Helper()
	return filepath.Join(chainPackages(t), "node_modules", path)
}
