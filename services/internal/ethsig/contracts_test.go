package ethsig_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/ethsig"
)

const validResult = `"result":"0x1626ba7e00000000000000000000000000000000000000000000000000000000"`

// node starts a node of a chain that answers every eth_call with this member of
// a JSON-RPC response, and has no contract.
func node(t *testing.T, chain, answer string) string {
	t.Helper()
	return nodeAt(t, chain, answer, 0)
}

// nodeAt is node with a newest block that is this old.
func nodeAt(t *testing.T, chain, answer string, age time.Duration) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var call struct {
			Method string
			Params []json.RawMessage
		}
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			t.Error(err)
		}
		member := answer
		want := `{"data":"0x1626ba7e` + strings.Repeat("02", 32) + fmt.Sprintf("%064x%064x", 64, 3) +
			"030303" + strings.Repeat("00", 29) + `","from":"0x` + fmt.Sprintf("%x", "purser-verifies-sigs") +
			`","gas":"0x989680","to":"0x` + strings.Repeat("01", 20) + `"}`
		switch {
		case call.Method == "eth_chainId":
			member = `"result":"` + chain + `"`
		case call.Method == "eth_getBlockByNumber":
			member = fmt.Sprintf(`"result":{"timestamp":"0x%x"}`, time.Now().Add(-age).Unix())
		case call.Method == "eth_getCode" && string(call.Params[0]) == `"0x`+strings.Repeat("01", 20)+`"`:
			member = `"result":"0x"`
		case call.Method != "eth_call" || string(call.Params[0]) != want || string(call.Params[1]) != `"latest"`:
			t.Errorf("asked %s %s", call.Method, call.Params)
		}
		if member == "redirect" {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
			return
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,%s}`, member)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func isValid(t *testing.T, nodes ...string) (bool, error) {
	t.Helper()
	c := ethsig.NewContracts(map[uint64][]string{31337: nodes}, slog.New(slog.DiscardHandler))
	var contract ethsig.Address
	var digest [32]byte
	for i := range contract {
		contract[i] = 1
	}
	for i := range digest {
		digest[i] = 2
	}
	verdict, err := c.Verify(t.Context(), 31337, contract, digest, []byte{3, 3, 3})
	return verdict == ethsig.Valid, err
}

func TestAContractAcceptsByTheMagicValueAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   bool
		reason string
	}{
		"the magic value":         {validResult, true, ""},
		"another value":           {strings.Replace(validResult, "7e0", "7f0", 1), false, ""},
		"0xffffffff":              {strings.Replace(validResult, "1626ba7e", "ffffffff", 1), false, ""},
		"the magic value at last": {`"result":"0x` + strings.Repeat("0", 56) + `1626ba7e"`, false, ""},
		"dirt after it":           {strings.Replace(validResult, `00"`, `01"`, 1), false, ""},
		"four bytes":              {`"result":"0x1626ba7e"`, false, ""},
		"more than a word":        {strings.Replace(validResult, `00"`, `0000"`, 1), false, ""},
		"no contract":             {`"result":"0x"`, false, ""},
		"true":                    {`"result":"0x` + strings.Repeat("0", 63) + `1"`, false, ""},
		"a revert": {`"error":{"code":3,"message":"execution reverted","data":"0x08c379a0"}`, false,
			""},
		"a revert by another code": {`"error":{"code":-32000,"message":"execution reverted"}`, false, ""},
		"a node's own error":       {`"error":{"code":-32005,"message":"limit exceeded"}`, false, "CHAIN_UNAVAILABLE"},
		"a number":                 {`"result":1`, false, "CHAIN_UNAVAILABLE"},
		"nothing":                  {`"x":1`, false, "CHAIN_UNAVAILABLE"},
		"a huge answer":            {`"result":"0x` + strings.Repeat("0", 64<<10) + `"`, false, "CHAIN_UNAVAILABLE"},
		"a redirect":               {"redirect", false, "CHAIN_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := isValid(t, node(t, "0x7a69", tc.answer))
			if e := errs.As(err); got != tc.want || (e == nil) != (tc.reason == "") ||
				e != nil && e.Reason != tc.reason {
				t.Error(got, err)
			}
		})
	}
	if _, err := isValid(t, node(t, "0x1", validResult)); !errs.Is(err, errs.KindUnavailable) {
		t.Error("a node of another chain was believed", err)
	}
	if _, err := isValid(t); errs.As(err).Reason != "CHAIN_NOT_CONFIGURED" {
		t.Error(err)
	}
}

// The answers of nodes to an eth_call of a contract that does these things, as seen (anvil 1.7.1, hardhat 2.29.1,
// go-ethereum 1.17) or as reported (Nethermind, Besu, ganache). What anvil and go-ethereum say now is tried in
// devstack.
func TestWhatAContractDoesIsNoOutage(t *testing.T) {
	for name, tc := range map[string]struct {
		code    int
		message string
		outage  bool
	}{
		"anvil, INVALID":        {-32603, "EVM error InvalidFEOpcode", false},
		"anvil, unknown opcode": {-32603, "EVM error OpcodeNotFound", false},
		"anvil, out of gas":     {-32603, "EVM error OutOfGas", false},
		"anvil, memory":         {-32603, "EVM error MemoryLimitOOG", false},
		"anvil, stack":          {-32603, "EVM error StackUnderflow", false},
		"anvil, jump":           {-32603, "EVM error InvalidJump", false},
		"anvil, revert":         {3, "execution reverted: custom error", false},
		"hardhat, INVALID": {-32603, "Error: VM Exception while processing transaction: invalid opcode",
			false},
		"hardhat, out of gas":      {-32000, "Transaction ran out of gas", false},
		"hardhat, revert":          {-32603, "Error: Transaction reverted without a reason string", false},
		"geth, INVALID":            {-32000, "invalid opcode: INVALID", false},
		"geth, unknown opcode":     {-32000, "invalid opcode: opcode 0xc not defined", false},
		"geth, out of gas":         {-32000, "out of gas", false},
		"geth, stack":              {-32000, "stack underflow (0 <=> 1)", false},
		"geth, deep stack":         {-32000, "stack limit reached 1024 (1023)", false},
		"geth, jump":               {-32000, "invalid jump destination", false},
		"geth, write":              {-32000, "write protection", false},
		"geth, revert":             {3, "execution reverted", false},
		"geth, return data":        {-32000, "return data out of bounds", false},
		"geth, overflow":           {-32000, "gas uint64 overflow", false},
		"Nethermind, INVALID":      {-32015, "VM execution error.", false},
		"Besu, revert":             {-32000, "Execution reverted", false},
		"ganache, INVALID":         {-32000, "VM Exception while processing transaction: invalid opcode", false},
		"ganache, out of gas":      {-32000, "VM Exception while processing transaction: out of gas", false},
		"a fork without its node":  {-32603, "EVM error; database error: failed to get account", true},
		"a block it doesn't have":  {-32000, "header not found", true},
		"state it doesn't have":    {-32000, "missing trie node 5f3c", true},
		"too many calls":           {-32005, "limit exceeded", true},
		"a call that takes long":   {-32000, "execution aborted (timeout = 5s)", true},
		"a method it doesn't have": {-32601, "the method eth_call does not exist/is not available", true},
		"parameters it can't read": {-32602, "invalid argument 0", true},
		"its own failure":          {-32603, "Internal error", true},
	} {
		t.Run(name, func(t *testing.T) {
			valid, err := isValid(t, node(t, "0x7a69", fmt.Sprintf(`"error":{"code":%d,"message":%q}`, tc.code,
				tc.message)))
			if valid || (err != nil) != tc.outage || tc.outage && errs.As(err).Reason != "CHAIN_UNAVAILABLE" {
				t.Error(valid, err)
			}
		})
	}
}

func TestTwoNodesHaveToAgree(t *testing.T) {
	invalidResult := strings.Replace(validResult, "1626ba7e", "ffffffff", 1)
	still := nodeAt(t, "0x7a69", validResult, 2*time.Minute)
	valid, invalid, down := node(t, "0x7a69", validResult), node(t, "0x7a69", invalidResult), "http://127.0.0.1:1"
	for name, tc := range map[string]struct {
		nodes []string
		want  bool
		fails bool
	}{
		"both accept":                       {[]string{valid, valid}, true, false},
		"both refuse":                       {[]string{invalid, invalid}, false, false},
		"one accepts":                       {[]string{valid, invalid}, false, true},
		"one refuses":                       {[]string{invalid, valid}, false, true},
		"one is unreachable":                {[]string{valid, down}, false, true},
		"one of three is unreachable":       {[]string{down, valid, valid}, true, false},
		"one of three is of another chain":  {[]string{valid, node(t, "0x1", validResult), valid}, true, false},
		"both are unreachable":              {[]string{down, down}, false, true},
		"a third doesn't outvote a dispute": {[]string{valid, invalid, valid}, false, true},
		"one of three stands still":         {[]string{still, invalid, invalid}, false, false},
		"one of two stands still":           {[]string{still, valid}, false, true},
		"both stand still":                  {[]string{still, still}, true, false},
		"one of three is ahead, and makes none lag": {
			[]string{nodeAt(t, "0x7a69", invalidResult, -time.Minute), still, still}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := isValid(t, tc.nodes...)
			if got != tc.want || (err != nil) != tc.fails || err != nil && errs.As(err).Reason != "CHAIN_UNAVAILABLE" {
				t.Error(got, err)
			}
			if err != nil && strings.Contains(err.Error(), "://") {
				t.Error("a node's URL is in the error:", err)
			}
		})
	}
}
