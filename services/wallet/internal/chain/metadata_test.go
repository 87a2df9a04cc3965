package chain_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// encoded is what a contract answers with a string: as the ABI has it.
func encoded(text string) []byte {
	length := common.Hash{29: byte(len(text) >> 16), 30: byte(len(text) >> 8), 31: byte(len(text))}
	return slices.Concat(common.Hash{31: 32}.Bytes(), length.Bytes(), []byte(text), make([]byte, -len(text)&31))
}

func TestWhatAContractSaysOfItselfIsMadeSafe(t *testing.T) {
	contract := common.HexToAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
	word := func(n byte) []byte { return common.Hash{31: n}.Bytes() }
	bytes32 := func(text string) []byte { return common.RightPadBytes([]byte(text), 32) }
	said := func(symbol, name string, decimals uint8, known, spam bool) transaction.Metadata {
		return transaction.Metadata{Symbol: symbol, Name: name, Decimals: decimals, Known: known, Spam: spam}
	}
	for name, tc := range map[string]struct {
		symbol, name, decimals []byte
		want                   transaction.Metadata
	}{
		"an ordinary one": {encoded("DAI"), encoded("Dai Stablecoin"), word(18),
			said("DAI", "Dai Stablecoin", 18, true, false)},
		"bytes32, as before EIP-20": {bytes32("MKR"), bytes32("Maker"), word(18),
			said("MKR", "Maker", 18, true, false)},
		"a name of 64 kB": {encoded("T"), encoded(strings.Repeat("long ", 13_107)), word(6),
			said("T", strings.TrimSpace(strings.Repeat("long ", 20)[:97])+"…", 6, true, false)},
		"control characters, and those that hide or reorder text": {encoded("U\x00S\u202eD\u200bC\x1b"),
			encoded("a\tb\n\u00a0c"), word(6), said("USDC", "a b c", 6, true, false)},
		"no UTF-8": {encoded("T\xff\xfe"), encoded("\xc3\x28"), word(0),
			said("T", "(", 0, true, false)},
		"decimals that revert":    {encoded("T"), nil, nil, said("T", "", 0, false, false)},
		"256 decimals":            {encoded("T"), nil, common.Hash{30: 1}.Bytes(), said("T", "", 0, false, false)},
		"255 decimals":            {encoded("T"), nil, word(255), said("T", "", 255, true, false)},
		"decimals of 33 bytes":    {encoded("T"), nil, make([]byte, 33), said("T", "", 0, false, false)},
		"nothing at all, as WETH": {nil, nil, nil, said("0x5aAe…eAed", "", 0, false, false)},
		"a length that is not there": {append(word(32), common.Hash{0: 0xff}.Bytes()...),
			append(word(32), word(200)...), word(1), said("0x5aAe…eAed", "", 1, true, false)},
		"an advertisement": {encoded("visit evil.example.com"), encoded("Claim your reward"), word(18),
			said("visit evil.example.com", "Claim your reward", 18, true, true)},
	} {
		if got := chain.MetadataIn(contract, tc.symbol, tc.name, tc.decimals); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
