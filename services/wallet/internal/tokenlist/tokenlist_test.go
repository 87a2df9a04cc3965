package tokenlist_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/wallet/internal/tokenlist"
)

func read(t *testing.T, content string) (ids string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := tokenlist.Read(path)
	var out []string
	for _, token := range tokens {
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
		{"a blank symbol", `{"chainId":1,"address":"` + zero + `","symbol":"  ","decimals":1}`, "", "symbol"},
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
	_, err := read(t, `{"tokens":[`+one+`,{"symbol":"B"},`+one+`]}`)
	if err == nil || !strings.Contains(err.Error(), "tokens[1] (B)") ||
		!strings.Contains(err.Error(), "tokens[2] (A): is listed twice") {
		t.Errorf("told %v", err)
	}
	if _, err := read(t, "{"); err == nil {
		t.Error("half a file was read")
	}
	if _, err := tokenlist.Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file was read")
	}
}
