package gains

import (
	"bytes"
	"encoding/csv"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// Whatever a token and a transaction are called, and whatever the amounts: a file can be read back, each row has the
// columns of the header, no cell is a formula, ids have their prefixes, and no number has exactly three decimals.
func FuzzFilesOfLots(f *testing.F) {
	f.Add("=1+1", "eip155:1/slip44:60", "lot:1", int64(-125), uint8(3), false)
	f.Add("a;b\"c\n", "t,\r\n", "@x", int64(1)<<62, uint8(0), true)
	f.Add("007", "\t=x", "", int64(0), uint8(255), false)
	threeDecimals := regexp.MustCompile(`^-?\d+[.,]\d{3}$`)
	f.Fuzz(func(t *testing.T, symbol, hash, wallet string, units int64, decimals uint8, semicolon bool) {
		asset := "eip155:1/slip44:60"
		r := &Result{Tokens: map[string]Token{asset: {Symbol: symbol, Decimals: decimals}}, assets: []string{asset},
			events: map[string][]Event{asset: {{}}}, parts: map[string][]Part{}}
		r.Currency = "USD"
		v := big.NewInt(units)
		q := new(big.Int).Abs(v)
		r.parts[asset] = []Part{{Asset: asset, Disposal: "lot:00", Wallet: wallet, Time: time.Unix(units%1e9, 0),
			Fact: Fact{Hash: hash, Cause: Swap}, Quantity: q, Proceeds: v, Cost: v, Gain: v, Lot: "lot:00",
			Unmet: symbol, Wash: lots.Wash{Loss: q}}, {Asset: asset, Quantity: q, Fact: Fact{Reason: "NO_PRICE"}}}
		format, comma := export.CSV, ','
		if semicolon {
			format, comma = export.CSVSemicolon, ';'
		}
		var out bytes.Buffer
		rows, err := (&Service{}).WriteFile(t.Context(), r, FileRequest{Format: format}, &out)
		if err != nil || rows != 2 {
			t.Fatal(rows, err)
		}
		read := csv.NewReader(bytes.NewReader(out.Bytes()))
		read.Comma = comma
		lines, err := read.ReadAll() // each line has as many cells as the first
		if err != nil || len(lines) != 3 {
			t.Fatalf("%d lines, %v in %q", len(lines), err, out.String())
		}
		for _, line := range lines[1:] {
			for i, cell := range line {
				name := lines[0][i]
				switch {
				case cell == "":
				case strings.ContainsRune("=+@\t\r", rune(cell[0])), cell[0] == '-' && (name == "symbol" ||
					name == "unmet_reason"):
					t.Errorf("%s is %q", name, cell)
				case threeDecimals.MatchString(cell) && name != "symbol" && name != "unmet_reason":
					t.Errorf("%s is %q: a thousand in some languages", name, cell)
				case strings.HasSuffix(name, "_base_units") && !strings.HasPrefix(cell, "base:"),
					name == "wallet_id" && !strings.HasPrefix(cell, "wallet:"),
					name == "transaction_hash" && !strings.HasPrefix(cell, "tx:"):
					t.Errorf("%s is %q", name, cell)
				}
			}
		}
	})
}
