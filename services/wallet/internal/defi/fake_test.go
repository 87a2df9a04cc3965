package defi_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// Contracts and holders of the tests.
var (
	market  = common.Address{0xaa}
	tokenA  = common.Address{0xa0}
	tokenB  = common.Address{0xb0}
	alice   = common.Address{1}
	bob     = common.Address{2}
	atBlock = block.Block{Number: 100}
)

// fakeChain answers calls by their contract, method and arguments; others fail.
type fakeChain struct {
	answers map[string][]byte
	err     error
	short   bool // one answer too few
	asked   int  // how often calls were made

	rest map[common.Address][]byte // the answers of contracts to other calls without arguments

	withoutCode []common.Address
	codeErr     error
}

// key is a call as answers has it.
func key(to common.Address, signature string, args ...[]byte) string {
	return to.Hex() + hex.EncodeToString(crypto.Keccak256([]byte(signature))[:4]) +
		hex.EncodeToString(bytes.Join(args, nil))
}

// words are numbers and addresses as the words of an answer or of arguments.
func words(values ...any) []byte {
	var out []byte
	for _, v := range values {
		var word [32]byte
		switch v := v.(type) {
		case int:
			word = uint256.NewInt(uint64(v)).Bytes32()
		case string:
			word = uint256.MustFromDecimal(v).Bytes32()
		case common.Address:
			copy(word[12:], v[:])
		}
		out = append(out, word[:]...)
	}
	return out
}

func (c *fakeChain) set(answer []byte, to common.Address, signature string, args ...any) {
	if c.answers == nil {
		c.answers = map[string][]byte{}
	}
	c.answers[key(to, signature, words(args...))] = answer
}

func (c *fakeChain) CallAt(_ context.Context, _ uint64, at block.Block, calls []defi.Call) ([]defi.Answer, error) {
	if at != atBlock {
		return nil, errors.New("another block")
	}
	c.asked++
	out := make([]defi.Answer, len(calls))
	for i, call := range calls {
		answer, ok := c.answers[call.To.Hex()+hex.EncodeToString(call.Data)]
		if !ok && len(call.Data) == 4 {
			answer = c.rest[call.To]
		}
		out[i] = answer
	}
	if c.short {
		out = out[1:]
	}
	return out, c.err
}

// WithoutCode implements defi.Caller.
func (c *fakeChain) WithoutCode(_ context.Context, _ uint64, at block.Block,
	contracts []common.Address) ([]bool, error) {
	if at != atBlock {
		return nil, errors.New("another block")
	}
	without := make([]bool, len(contracts))
	for i, contract := range contracts {
		without[i] = slices.Contains(c.withoutCode, contract)
	}
	return without, c.codeErr
}

// read reads markets for Alice and Bob.
func (c *fakeChain) read(t *testing.T, markets ...string) (alices, bobs []defi.Reading) {
	t.Helper()
	var ms defi.Markets
	if err := ms.UnmarshalText([]byte(strings.Join(markets, ","))); err != nil {
		t.Fatal(err)
	}
	read := defi.NewService(ms, c, slog.New(slog.DiscardHandler)).Read(t.Context(), 1, atBlock,
		[]common.Address{alice, bob})
	return read[0], read[1]
}

// of is what a reading has, in one line.
func of(r defi.Reading) string {
	var out []string
	for _, p := range r.Positions {
		if p.Ended {
			continue
		}
		text := string(p.Kind) + string(p.Mode) + " " + p.Amount.Dec() + " " + p.Asset[len("eip155:1/"):][:8]
		if p.YearlyRate != "" {
			text += " at " + p.YearlyRate
		}
		if p.Collateral {
			text += " collateral"
		}
		out = append(out, text)
	}
	if r.Missing != "" {
		out = append(out, "missing: "+r.Missing)
	}
	return strings.Join(out, ", ")
}

func at(protocol string, contract common.Address) string {
	return protocol + "@eip155:1:" + contract.Hex()
}
