package chainlink_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chainlink"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

const ether = "eip155:1/slip44:60"

// answers is a chain whose feeds answer the same at every time.
type answers []chainlink.Answer

func (a answers) Feeds(context.Context, uint64, []common.Address) ([]chainlink.Answer, error) {
	return a, nil
}

func (a answers) FeedsAt(_ context.Context, _ uint64, times []time.Time,
	_ []common.Address) ([][]chainlink.Answer, error) {
	out := make([][]chainlink.Answer, len(times))
	for i := range out {
		if i > 0 { // it doesn't have the state of the first
			out[i] = a
		}
	}
	return out, nil
}

func word(n *big.Int) []byte { return new(big.Int).And(n, mask()).FillBytes(make([]byte, 32)) }

func mask() *big.Int { return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)) }

func number(n int64) []byte { return word(big.NewInt(n)) }

func round(answer *big.Int, updated int64) []byte {
	return bytes.Join([][]byte{number(1 << 62), word(answer), number(0), number(updated), number(0)}, nil)
}

func text(s string) []byte {
	padded := make([]byte, (len(s)+31)/32*32)
	copy(padded, s)
	return bytes.Join([][]byte{number(32), number(int64(len(s))), padded}, nil)
}

func TestRounds(t *testing.T) {
	at := noon().Add(-20 * time.Hour).Unix()
	good := round(big.NewInt(285_355_000_000), at)
	for _, tc := range []struct {
		name   string
		answer chainlink.Answer
		want   string // a price, or why there is none
	}{
		{"a round", chainlink.Answer{Round: good, Decimals: number(8), Description: text("ETH / USD")}, "2853.55"},
		{"without a description", chainlink.Answer{Round: good, Decimals: number(8)}, "2853.55"},
		{"a description that is no text", chainlink.Answer{Round: good, Decimals: number(8),
			Description: number(5)}, "2853.55"},
		{"18 decimals", chainlink.Answer{Round: good, Decimals: number(18), Description: text("X / USD")},
			"0.000000285355"},
		{"no decimals", chainlink.Answer{Round: good, Decimals: number(0)}, "285355000000"},
		{"in ether", chainlink.Answer{Round: good, Decimals: number(18), Description: text("LINK / ETH")},
			"not in USD"},
		{"a description of another form", chainlink.Answer{Round: good, Decimals: number(8),
			Description: text("v0.6/tests/MockV3Aggregator.sol")}, "2853.55"},
		{"in euros", chainlink.Answer{Round: good, Decimals: number(8), Description: text("USD/EUR")}, "not in USD"},
		{"zero, as before the first answer", chainlink.Answer{Round: round(big.NewInt(0), at), Decimals: number(8)},
			"not above zero"},
		{"negative", chainlink.Answer{Round: round(big.NewInt(-1), at), Decimals: number(8)}, "not above zero"},
		{"the least number", chainlink.Answer{Round: round(new(big.Int).Lsh(big.NewInt(1), 255), at),
			Decimals: number(8)}, "not above zero"},
		{"the largest number", chainlink.Answer{Round: round(new(big.Int).Rsh(mask(), 1), at), Decimals: number(8)},
			"no price"},
		{"no time", chainlink.Answer{Round: round(big.NewInt(5), 0), Decimals: number(8)}, "no time"},
		{"of the future", chainlink.Answer{Round: round(big.NewInt(5), noon().Unix()+301), Decimals: number(8)},
			"of the future"},
		{"a revert", chainlink.Answer{Decimals: number(8)}, "no round"},
		{"no contract", chainlink.Answer{}, "no round"},
		{"one word", chainlink.Answer{Round: number(5), Decimals: number(8)}, "no round"},
		{"decimals of 2^256-1", chainlink.Answer{Round: good, Decimals: word(mask())}, "malformed"},
		{"300 decimals", chainlink.Answer{Round: good, Decimals: number(300)}, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			s := chainlink.New([]chainlink.Feed{{TokenID: ether, Chain: 1, Heartbeat: 24 * time.Hour}},
				answers{tc.answer}, slog.New(slog.NewTextHandler(&log, nil)), noon)
			got, err := s.Current(t.Context(), []token.Token{{ID: ether}, {ID: "other"}})
			if err != nil {
				t.Fatal(err)
			}
			p, has := got[ether]
			if !has {
				if !strings.Contains(log.String(), tc.want+": 1, such as "+ether) {
					t.Errorf("logged %s, want %s", log.String(), tc.want)
				}
				return
			}
			if p.Value != tc.want || p.Source != "chainlink" || p.At.Unix() != at {
				t.Errorf("%+v, want %s", p, tc.want)
			}
			if p.StaleAt(noon(), time.Hour) || !p.StaleAt(noon().Add(5*time.Hour), time.Hour) {
				t.Errorf("good for %s of a heartbeat of 24h", p.GoodFor)
			}
			past, err := s.History(t.Context(), []token.Token{{ID: ether}, {ID: "other"}}, noon(), 3)
			if err != nil || len(past[ether]) != 1 || past[ether][0].Value != tc.want || len(past) != 2 {
				t.Errorf("of the past: %+v, %v", past, err)
			}
		})
	}
}

func TestTheFileOfFeeds(t *testing.T) {
	const contract = `"0x5f4eC3Df9cbd43714FE2740f5E3616155c5b8419"`
	read := func(text string) ([]chainlink.Feed, error) {
		path := filepath.Join(t.TempDir(), "feeds.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return chainlink.ReadFile(path)
	}
	row := func(tokenID, chain, address, heartbeat string) string {
		return `{"token_id":` + tokenID + `,"chain":` + chain + `,"address":` + address +
			`,"heartbeat":` + heartbeat + `}`
	}
	good := row(`"`+ether+`"`, `"eip155:1"`, contract, `"1h"`)
	feeds, err := read("[" + good + "," + row(`"EUR"`, `"eip155:1"`, contract, `"24h"`) + "]")
	if err != nil || len(feeds) != 2 || feeds[0].Heartbeat != time.Hour || feeds[1].TokenID != "EUR" ||
		hex.EncodeToString(feeds[0].Contract[:]) != "5f4ec3df9cbd43714fe2740f5e3616155c5b8419" {
		t.Fatalf("%+v, %v", feeds, err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"no list":           {good, "JSON list"},
		"an unknown member": {`[{"symbol":"ETH"}]`, "symbol"},
		"a symbol":          {"[" + row(`"ETH"`, `"eip155:1"`, contract, `"1h"`) + "]", "feed 1: token_id"},
		"US dollars":        {"[" + row(`"USD"`, `"eip155:1"`, contract, `"1h"`) + "]", "feed 1: token_id"},
		"a chain's number":  {"[" + row(`"EUR"`, `"1"`, contract, `"1h"`) + "]", "feed 1: chain"},
		"a wrong checksum": {"[" + row(`"EUR"`, `"eip155:1"`, strings.Replace(contract, "eC3", "EC3", 1),
			`"1h"`) + "]", "feed 1: address"},
		"no heartbeat": {"[" + row(`"EUR"`, `"eip155:1"`, contract, `""`) + "]", "heartbeat"},
		"a heartbeat of a month": {"[" + row(`"EUR"`, `"eip155:1"`, contract, `"720h"`) + "]",
			"heartbeat"},
		"two feeds of one": {"[" + good + "," + good + "]", "feed 2: token_id " + ether + " has a feed already"},
	} {
		if _, err := read(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
