package chain_test

import (
	"bytes"
	"log/slog"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/core/types"

	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/internal/ethsig"
)

// A go-ethereum node has other words for each of these than anvil, whose are tried in suitetest.
func TestAContractThatFailsHasRefusedASignature(t *testing.T) {
	c := start(t, withShortHistory)
	from := &sender{reader: dial(t, c), chain: c, from: c.Cast().Faucet}
	nodes := ethsig.NewContracts(map[uint64][]string{c.ChainID(): {c.URL()}}, slog.New(slog.DiscardHandler))
	for name, code := range map[string][]byte{
		"INVALID": {0xfe}, "an unknown opcode": {0x0c}, "a revert": {0x5f, 0x5f, 0xfd}, "nothing": {0x00},
		"an endless loop": {0x5b, 0x5f, 0x56}, "an empty stack": {0x50}, "a jump to nowhere": {0x60, 0x20, 0x56},
		"a write of 64 GiB of memory":  {0x5f, 0x64, 0xf, 0xff, 0xff, 0xff, 0xff, 0x52},
		"return data that isn't there": {0x60, 0x20, 0x5f, 0x5f, 0x3e},
	} {
		// Init code that returns code: PUSH1 size, PUSH1 10, PUSH0, CODECOPY, PUSH1 size, PUSH0, RETURN.
		size := byte(len(code))
		creation := append([]byte{0x60, size, 0x60, 0x0a, 0x5f, 0x39, 0x60, size, 0x5f, 0xf3}, code...)
		made := from.do(nil, creation)
		if made.Status != types.ReceiptStatusSuccessful {
			t.Fatal(name, "was not deployed")
		}
		at := ethsig.Address(made.ContractAddress)
		got, err := nodes.Verify(t.Context(), c.ChainID(), at, [32]byte{1}, []byte{2})
		if err != nil || got != ethsig.Refused {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	nobody := ethsig.Address(chain.WalletOf(c.Cast().Bob)) // not deployed
	if got, err := nodes.Verify(t.Context(), c.ChainID(), nobody, [32]byte{1}, nil); err != nil ||
		got != ethsig.NoContract {
		t.Error(got, err)
	}
	// A deployment that deploys nothing (ERC-6492). That it is refused, and isn't answered WALLET_NOT_DEPLOYED, means
	// that the node has run it.
	word := func(last byte) []byte { return append(make([]byte, 31), last) }
	wrapped := slices.Concat(word(7), word(96), word(128), word(0), word(0), bytes.Repeat([]byte{0x64, 0x92}, 16))
	if got, err := nodes.Verify(t.Context(), c.ChainID(), nobody, [32]byte{1}, wrapped); err != nil ||
		got != ethsig.Refused {
		t.Error(got, err)
	}
}
