package suitetest

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// anvilPackages installs what testdata/wallets pins, the node anvil and the contracts of Safe, into a folder that Git
// ignores, unless it is there.
var anvilPackages = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join(checkout, ".build", "wallets"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	done, changed := filepath.Join(dir, "installed"), false
	for _, name := range []string{"package.json", "package-lock.json"} {
		wanted, err := os.ReadFile(filepath.Join("testdata/wallets", name))
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		if got, err := os.ReadFile(path); err == nil && string(got) == string(wanted) {
			continue
		}
		changed = true
		if err := os.WriteFile(path, wanted, 0o600); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(done); err == nil && !changed {
		return dir, nil
	}
	_ = os.Remove(done)
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return dir, os.WriteFile(done, nil, 0o600)
})

// anvil is a running node of a chain of its own.
type anvil struct {
	*rpc.Client
	t   *testing.T
	url string
	dir string // of the npm packages
	// stop ends the node.
	stop func()
}

const anvilChain = 8453

// startAnvil runs the node until the test ends, with more arguments. It skips the test where npm is missing or can't
// fetch the packages.
func startAnvil(t *testing.T, more ...string) anvil {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: the wallets of others (Safe) are not tried", program)
		}
	}
	dir, err := anvilPackages()
	if err != nil {
		servicetest.SkipWithoutPackages(t, err, "the wallets of others (Safe)")
	}
	found, err := filepath.Glob(filepath.Join(dir, "node_modules/@foundry-rs/anvil-*/bin/anvil*"))
	if err != nil || len(found) == 0 {
		t.Skip("npm has no anvil for this system: the wallets of others (Safe) are not tried")
	}
	ctx, stop := context.WithCancel(context.Background())
	port := freePort(t)
	cmd := exec.CommandContext(ctx, found[0], append([]string{"--silent", "--chain-id", fmt.Sprint(anvilChain),
		"--port", fmt.Sprint(port)}, more...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceFunc(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	t.Cleanup(ended)
	a := anvil{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), dir: dir, stop: ended}
	if a.Client, err = rpc.DialContext(t.Context(), a.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	testkit.Eventually(t, time.Minute, func() bool {
		var id hexutil.Uint64
		return a.CallContext(t.Context(), &id, "eth_chainId") == nil && id == anvilChain
	})
	return a
}

// ask makes a request that must succeed.
func (a anvil) ask(into any, method string, params ...any) {
	a.t.Helper()
	if err := a.CallContext(a.t.Context(), into, method, params...); err != nil {
		a.t.Fatal(method, err)
	}
}

// owner is the first account that anvil has the key of; its key is public.
func (a anvil) owner() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// send has the owner send data to an address, nil to create a contract, and returns the address of that.
func (a anvil) send(to *common.Address, data []byte) common.Address {
	a.t.Helper()
	tx := map[string]any{"from": crypto.PubkeyToAddress(a.owner().PublicKey), "data": hexutil.Bytes(data),
		"gas": hexutil.Uint64(0xe00000)} // an estimate may be short a second later
	if to != nil {
		tx["to"] = to
	}
	var hash common.Hash
	a.ask(&hash, "eth_sendTransaction", tx)
	var receipt *struct {
		Status          hexutil.Uint64  `json:"status"`
		ContractAddress *common.Address `json:"contractAddress"`
	}
	testkit.Eventually(a.t, time.Minute, func() bool {
		a.ask(&receipt, "eth_getTransactionReceipt", hash)
		return receipt != nil
	})
	if receipt.Status != 1 {
		a.t.Fatal("a transaction failed")
	}
	if receipt.ContractAddress == nil {
		return common.Address{}
	}
	return *receipt.ContractAddress
}

// contract is a compiled contract of Safe, as published.
type contract struct {
	abi.ABI
	address common.Address // once deployed
	code    []byte
}

// deploy creates a contract of Safe, named by its path, without arguments.
func (a anvil) deploy(path string) contract {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, "node_modules/@safe-global/safe-contracts/build/artifacts/contracts",
		path))
	if err != nil {
		a.t.Fatal(err)
	}
	var file struct {
		ABI      abi.ABI       `json:"abi"`
		Bytecode hexutil.Bytes `json:"bytecode"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		a.t.Fatal(err)
	}
	return contract{ABI: file.ABI, code: file.Bytecode, address: a.send(nil, file.Bytecode)}
}

// pack encodes a call.
func (c contract) pack(t *testing.T, method string, args ...any) []byte {
	t.Helper()
	data, err := c.Pack(method, args...)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// safes are the contracts of Safe 1.4.1, deployed.
type safes struct {
	anvil
	singleton, factory, handler, library contract
}

func deploySafes(a anvil) safes {
	return safes{anvil: a, singleton: a.deploy("Safe.sol/Safe.json"),
		factory: a.deploy("proxies/SafeProxyFactory.sol/SafeProxyFactory.json"),
		handler: a.deploy("handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler.json"),
		library: a.deploy("libraries/SignMessageLib.sol/SignMessageLib.json")}
}

// creation is the call of the factory that deploys the Safe of an owner and a number, and the address that it gets.
func (s safes) creation(owner common.Address, number int64) ([]byte, common.Address) {
	s.t.Helper()
	setup := s.singleton.pack(s.t, "setup", []common.Address{owner}, big.NewInt(1), common.Address{}, []byte{},
		s.handler.address, common.Address{}, new(big.Int), common.Address{})
	data := s.factory.pack(s.t, "createProxyWithNonce", s.singleton.address, setup, big.NewInt(number))
	var result hexutil.Bytes
	s.ask(&result, "eth_call", map[string]any{"to": s.factory.address, "data": hexutil.Bytes(data)}, "latest")
	return data, common.BytesToAddress(result)
}

// newSafe deploys a Safe of anvil's owner.
func (s safes) newSafe(number int64) common.Address {
	s.t.Helper()
	data, address := s.creation(crypto.PubkeyToAddress(s.owner().PublicKey), number)
	s.send(&s.factory.address, data)
	return address
}

// signedBy is the signature of a Safe's owner, of a message that the Safe is asked about.
func (s safes) signedBy(key *ecdsa.PrivateKey, safe common.Address, message string) []byte {
	s.t.Helper()
	word := func(hash []byte) []byte { return common.LeftPadBytes(hash, 32) }
	domain := crypto.Keccak256(crypto.Keccak256([]byte("EIP712Domain(uint256 chainId,address verifyingContract)")),
		word(big.NewInt(anvilChain).Bytes()), word(safe.Bytes()))
	content := crypto.Keccak256(crypto.Keccak256([]byte("SafeMessage(bytes message)")),
		crypto.Keccak256(messageHash(message)))
	sig, err := crypto.Sign(crypto.Keccak256([]byte{0x19, 0x01}, domain, content), key)
	if err != nil {
		s.t.Fatal(err)
	}
	sig[64] += 27
	return sig
}

// approve has the owner of a Safe sign a message on chain.
func (s safes) approve(safe common.Address, message string) {
	s.t.Helper()
	approved := append(common.LeftPadBytes(crypto.PubkeyToAddress(s.owner().PublicKey).Bytes(), 32),
		append(make([]byte, 32), 1)...) // v of 1: the sender is the owner
	s.send(&safe, s.singleton.pack(s.t, "execTransaction", s.library.address, new(big.Int),
		s.library.pack(s.t, "signMessage", messageHash(message)), uint8(1), new(big.Int), new(big.Int), new(big.Int),
		common.Address{}, common.Address{}, approved))
}

// messageHash is what personal_sign signs (EIP-191).
func messageHash(message string) []byte {
	return crypto.Keccak256(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(message), message))
}

// undeployed wraps a signature with the call that deploys its wallet (ERC-6492).
func undeployed(t *testing.T, factory common.Address, data, sig []byte) []byte {
	t.Helper()
	address, err1 := abi.NewType("address", "", nil)
	text, err2 := abi.NewType("bytes", "", nil)
	body, err3 := abi.Arguments{{Type: address}, {Type: text}, {Type: text}}.Pack(factory, data, sig)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		body = append(body, 0x64, 0x92)
	}
	return body
}
