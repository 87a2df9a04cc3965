package chain_test

import (
	"context"
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
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// realNode is a node that others have written, of a new chain 1 of its own.
type realNode struct {
	*rpc.Client
	url string
}

// holder is the first account of anvil and hardhat, which has 10,000 ether.
var holder = common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")

// startReal runs anvil or hardhat until the test ends. It skips the test where npm is missing.
func startReal(t *testing.T, kind string) realNode {
	t.Helper()
	dir := servicetest.NPM(t, "../../testdata/nodes", "chain-nodes", "real nodes of chains")
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
	n := realNode{url: "http://127.0.0.1:" + port}
	if n.Client, err = rpc.DialContext(t.Context(), n.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	testkit.Eventually(t, 60*time.Second, func() bool {
		var id hexutil.Uint64
		return n.CallContext(t.Context(), &id, "eth_chainId") == nil && id == 1
	})
	return n
}

func realNodes() []string { return []string{"anvil", "hardhat"} }

// A new chain has no Multicall3.
func TestBalancesOfRealNodesWithoutMulticall3(t *testing.T) {
	for _, kind := range realNodes() {
		t.Run(kind, func(t *testing.T) {
			n := startReal(t, kind)
			r := newReader(t, 10, n.url)
			r.now = time.Now()
			native := token.Token{ID: "native", Chain: 1, Native: true}
			got, err := r.Read(t.Context(), 1, 0, holder, []token.Token{native, tokens(1)[0]})
			if err != nil || amounts(got) != "10000000000000000000000 -" {
				t.Fatalf("read %s, %v", amounts(got), err)
			}
			if r.log.Len() > 0 {
				t.Errorf("logged %s", r.log)
			}
		})
	}
}

// The words of nodes for what they don't have, and what they are taken for.
func TestTheErrorsOfRealNodes(t *testing.T) {
	unknown := map[string]any{"blockHash": common.Hash{31: 0xff}}
	for _, kind := range realNodes() {
		t.Run(kind, func(t *testing.T) {
			n := startReal(t, kind)
			invalid := map[string]any{"data": "0xfe"} // the opcode INVALID
			reverts := map[string]any{"data": "0x60006000fd"}
			spins := map[string]any{"data": "0x5b600056", "gas": "0x186a0"} // in a loop
			for _, tc := range []struct {
				name, method string
				params       []any
				want         string
			}{
				{"a block by an unknown hash", "eth_call", []any{map[string]any{"to": holder}, unknown},
					"unknown block"},
				{"a balance by an unknown hash", "eth_getBalance", []any{holder, unknown}, "unknown block"},
				{"code by an unknown hash", "eth_getCode", []any{holder, unknown}, "unknown block"},
				{"a block of the future", "eth_call", []any{map[string]any{"to": holder}, "0x64"}, "unknown block"},
				{"the opcode INVALID", "eth_call", []any{invalid, "latest"}, "reverted"},
				{"a revert", "eth_call", []any{reverts, "latest"}, "reverted"},
				{"a call that eats its gas", "eth_call", []any{spins, "latest"}, "refused"},
				{"no such method", "eth_none", nil, "unsupported"},
			} {
				var result any
				err := n.CallContext(t.Context(), &result, tc.method, tc.params...)
				if got := chain.KindOf(err); got != tc.want {
					t.Errorf("%s is taken for %q: %v", tc.name, got, err)
				}
			}
		})
	}
}
