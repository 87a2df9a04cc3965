package tokenlist_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/tokenlist"
)

func read(t *testing.T, content string) (ids string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := tokenlist.Read(path)
	var out []string
	for _, token := range list.Tokens {
		s := token.ID + " " + token.Symbol
		if !token.Verified {
			s += " (unverified)"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", "), err
}

const (
	address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	zero    = "0x0000000000000000000000000000000000000000"
)

func TestRead(t *testing.T) {
	for _, tc := range []struct{ name, tokens, want, wantErr string }{
		{"a token", `{"chainId":1,"address":"` + address + `","symbol":" T ","name":"Token","decimals":18}`,
			"eip155:1/erc20:" + strings.ToLower(address) + " T", ""},
		{"the native coin", `{"chainId":137,"address":"` + zero + `","symbol":"POL","decimals":18}`,
			"eip155:137/slip44:966 POL", ""},
		{"a token tagged unverified", `{"chainId":1,"address":"` + zero +
			`","symbol":"T","decimals":0,"tags":["x","unverified"]}`, "eip155:1/slip44:60 T (unverified)", ""},
		{"255 decimals", `{"chainId":1,"address":"` + zero + `","symbol":"T","decimals":255}`, "eip155:1/slip44:60 T",
			""},
		{"256 decimals", `{"chainId":1,"address":"` + zero + `","symbol":"T","decimals":256}`, "", "decimals"},
		{"decimals below zero", `{"chainId":1,"address":"` + zero + `","symbol":"T","decimals":-1}`, "", "decimals"},
		{"no decimals", `{"chainId":1,"address":"` + zero + `","symbol":"T"}`, "", "decimals"},
		{"no chain", `{"address":"` + zero + `","symbol":"T","decimals":1}`, "", "chain"},
		{"a chain past 63 bits", `{"chainId":9223372036854775808,"address":"` + zero + `","symbol":"T","decimals":1}`,
			"", "chain"},
		{"a wrong checksum", `{"chainId":1,"address":"` + strings.Replace(address, "aA", "aa", 1) +
			`","symbol":"T","decimals":1}`, "", "checksum"},
		{"a blank symbol", `{"chainId":1,"address":"` + address + `","symbol":"  ","decimals":1}`,
			"eip155:1/erc20:" + strings.ToLower(address) + " 0x5aAe…eAed", ""},
		{"the native coin as some lists write it",
			`{"chainId":1,"address":"0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE","symbol":"ETH","decimals":18}`,
			"eip155:1/slip44:60 ETH", ""},
		{"a token of Rootstock with its chain's checksum",
			`{"chainId":30,"address":"0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD","symbol":"T","decimals":18}`,
			"eip155:30/erc20:" + strings.ToLower(address) + " T", ""},
		{"a token of Solana", `{"chainId":501000101,"address":"5mbK36SZ7J19An8jFochhQS4of8g6BwUjbeCSxBSoWdp",` +
			`"symbol":"T","decimals":6}`, "", ""},
		{"a token of Starknet", `{"chainId":9004,"address":"0x049d36570d4e46f48e99674bd3fcc84644ddd6b96f7c741b1562` +
			`b82f9e004dc7","symbol":"T","decimals":18}`, "", ""},
		{"an address that is cut off", `{"chainId":1,"address":"` + address[:40] + `","symbol":"T","decimals":18}`, "",
			"40 hexadecimal digits"},
		{"a symbol with a NUL byte", `{"chainId":1,"address":"` + zero + `","symbol":"T\u0000","decimals":1}`, "",
			"symbol"},
		{"a long name", `{"chainId":1,"address":"` + zero + `","symbol":"T","decimals":1,"name":"` +
			strings.Repeat("x", 101) + `"}`, "", "name"},
		{"none", ``, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(t, `{"name":"list","tokens":[`+tc.tokens+`]}`)
			if got != tc.want || (err == nil) != (tc.wantErr == "") ||
				err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestEveryErrorInTheListIsReportedWithItsPlace(t *testing.T) {
	one := `{"chainId":1,"address":"` + zero + `","symbol":"A","decimals":1}`
	_, err := read(t, `{"tokens":[`+one+`,{"symbol":"B"},{"symbol":"C"}]}`)
	if err == nil || !strings.Contains(err.Error(), "tokens[1] (B)") ||
		!strings.Contains(err.Error(), "tokens[2] (C)") {
		t.Errorf("told %v", err)
	}
	if _, err := read(t, "{"); err == nil {
		t.Error("half a file was read")
	}
	if _, err := tokenlist.Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file was read")
	}
}

func TestOfSeveralEntriesOfAnAccountTheFirstCounts(t *testing.T) {
	entry := func(address, symbol string) string {
		return `{"chainId":1,"address":"` + address + `","symbol":"` + symbol + `","decimals":1}`
	}
	write := func(entries ...string) string {
		path := filepath.Join(t.TempDir(), "list.json")
		if err := os.WriteFile(path, []byte(`{"tokens":[`+strings.Join(entries, ",")+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const solana = "5mbK36SZ7J19An8jFochhQS4of8g6BwUjbeCSxBSoWdp"
	first := write(entry(address, "A"), entry(strings.ToLower(address), "B"), entry(solana, "S"))
	second := write(entry(zero, "C"), entry(address, "D"), entry(zero, "E"), entry(zero, "F"), entry(solana, "S"))
	for want, paths := range map[string][]string{
		"0 0":     nil,
		"A 1 1":   {first},
		"A C 3 2": {first, second},
		"C D 3 2": {second, first},
		"A C 5 3": {first, second, second, write()},
	} {
		list, err := tokenlist.ReadAll(paths)
		var got []string
		for _, token := range list.Tokens {
			got = append(got, token.Symbol)
		}
		got = append(got, fmt.Sprint(list.Repeated), fmt.Sprint(list.Foreign[1]))
		if told := strings.Join(got, " "); err != nil || told != want {
			t.Errorf("read %q, %v; want %q", told, err, want)
		}
	}
	if _, err := tokenlist.ReadAll([]string{first, write(`{"symbol":"B"}`), "none.json"}); err == nil ||
		!strings.Contains(err.Error(), "tokens[0] (B)") || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("of two lists that can't be read was told %v", err)
	}
}

// Polygon's and Celo's native coins have a contract too, whose balances are theirs.
func TestANativeCoinUnderAContractsAddressIsCountedOnce(t *testing.T) {
	for chain, contract := range map[string]string{"137": "0x0000000000000000000000000000000000001010",
		"42220": "0x471EcE3750Da237f93B8E339c536989b8978a438"} {
		entry := `{"chainId":` + chain + `,"address":"` + contract + `","symbol":"COIN","decimals":18}`
		path := filepath.Join(t.TempDir(), "list.json")
		if err := os.WriteFile(path, []byte(`{"tokens":[`+entry+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := tokenlist.Read(path)
		if err != nil || len(list.Tokens) != 0 || len(list.NativeContracts) != 1 {
			t.Errorf("chain %s: %+v, %v", chain, list, err)
		}
	}
	// On another chain the same address may be any token.
	if got, err := read(t, `{"tokens":[{"chainId":1,"address":"0x0000000000000000000000000000000000001010",`+
		`"symbol":"T","decimals":18}]}`); err != nil || got == "" {
		t.Error(got, err)
	}
}

func TestTheNativeCoinOfEachChainIsAlwaysThere(t *testing.T) {
	listed := []token.Token{{ID: "eip155:1/slip44:60", Chain: 1, Native: true, Symbol: "ether"},
		{ID: "eip155:137/erc20:0x1", Chain: 137}}
	var out []string
	for _, t := range tokenlist.WithNative(listed, []uint64{1, 30, 137, 4242}) {
		out = append(out, t.ID+" "+t.Symbol)
	}
	if got := strings.Join(out, ", "); got != "eip155:1/slip44:60 ether, eip155:137/erc20:0x1 , "+
		"eip155:30/slip44:137 RBTC, eip155:137/slip44:966 POL, eip155:4242/slip44:60 NATIVE" {
		t.Error(got)
	}
}

// The list as it is published, with 185 tokens of Solana.
func TestUniswapsRealDefaultListIsRead(t *testing.T) {
	dir := servicetest.NPM(t, "../../testdata/nodes", "chain-nodes", "a published token list")
	list, err := tokenlist.Read(filepath.Join(dir,
		"node_modules/@uniswap/default-token-list/build/uniswap-default.tokenlist.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tokens) != 1723-185-2 || list.Foreign[501000101] != 185 || len(list.Foreign) != 1 ||
		len(list.NativeContracts) != 2 {
		t.Errorf("%d tokens, left out %v and %v", len(list.Tokens), list.Foreign, list.NativeContracts)
	}
}
