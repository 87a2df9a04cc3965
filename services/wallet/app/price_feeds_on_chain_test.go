package app_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// chainlinkCode returns the code of a contract of @chainlink/contracts, of the folder of its compiler.
func chainlinkCode(t *testing.T, name string) []byte {
	t.Helper()
	folder, err := filepath.Abs("../testdata/chainlink")
	if err != nil {
		t.Fatal(err)
	}
	dir := servicetest.NPM(t, folder, "chainlink", "contracts of price feeds")
	text, err := os.ReadFile(filepath.Join(dir, "node_modules/@chainlink/contracts/ethers/v0.6/factories",
		name+"__factory.js"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`_bytecode = "0x([0-9a-f]+)"`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no code of %s", name)
	}
	code, err := hex.DecodeString(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func word(n int64) []byte {
	v := big.NewInt(n)
	if n < 0 {
		v.Add(v, new(big.Int).Lsh(big.NewInt(1), 256))
	}
	return v.FillBytes(make([]byte, 32))
}

func calldata(signature string, words ...[]byte) []byte {
	return append(crypto.Keccak256([]byte(signature))[:4], bytes.Join(words, nil)...)
}

// The contracts that Chainlink has deployed: an aggregator behind its proxy.
func TestPricesOfChainlinksRealContracts(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			mock, proxy := chainlinkCode(t, "MockV3Aggregator"), chainlinkCode(t, "EACAggregatorProxy")
			flux := chainlinkCode(t, "FluxAggregator")
			from := servicetest.NodeHolder
			aggregator := func(decimals, answer int64) string {
				return n.Create(t, from, bytes.Join([][]byte{mock, word(decimals), word(answer)}, nil))
			}
			behindProxy := func(aggregator string) string {
				a := common.HexToAddress(aggregator)
				return n.Create(t, from, bytes.Join([][]byte{proxy, common.LeftPadBytes(a[:], 32), word(0)}, nil))
			}
			etherFeed, euroFeed := aggregator(8, 285_355_000_000), aggregator(18, 1_080_000_000_000_000_000)
			// One in ether, and without any answer yet: latestRoundData reverts.
			empty := n.Create(t, from, bytes.Join([][]byte{flux, word(0), word(0), word(60), word(0), word(1),
				word(1_000_000), word(8), word(256), word(9), common.RightPadBytes([]byte("AAA / ETH"), 32)}, nil))
			feed := func(id, address, heartbeat string) map[string]string {
				return map[string]string{"token_id": id, "chain": "eip155:1", "address": strings.ToLower(address),
					"heartbeat": heartbeat}
			}
			feeds := filepath.Join(t.TempDir(), "feeds.json")
			list, err := json.Marshal([]map[string]string{
				feed(etherID, behindProxy(etherFeed), "1h"), feed("EUR", behindProxy(euroFeed), "24h"),
				feed(aaa, empty, "1h"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(feeds, list, 0o600); err != nil {
				t.Fatal(err)
			}
			s, f, logs := startPriced(t, "chainlink,llama,imported", "PURSER_PRICE_FEEDS="+feeds,
				"PURSER_CHAIN_RPC_URLS=1="+string(n))
			f.set(func(f *priceFeeds) { f.llama[llamaEther], f.llama["ethereum:"+tokenContract] = "2860", "7" })
			if p := s.price(t, "", etherID, "EUR", aaa); priceText(p[0]) != "2853.55 USD chainlink" ||
				priceText(p[1]) != "1.08 USD chainlink" || priceText(p[2]) != "7 USD llama" {
				t.Fatalf("%v", p)
			}
			if !strings.Contains(logs.String(), "no round: 1, such as "+aaa) {
				t.Error("the feed without an answer is not told of")
			}
			answer := func(to string, value, at int64) {
				n.Send(t, from, to, calldata("updateRoundData(uint80,int256,uint256,uint256)", word(2), word(value),
					word(at), word(at)), 0)
			}
			becomes := func(why, want string) {
				t.Helper()
				got := ""
				deadline := time.Now().Add(20 * time.Second)
				for got != want && time.Now().Before(deadline) {
					got = priceText(s.price(t, "", etherID)[0])
				}
				if got != want {
					t.Errorf("%s: %s, want %s", why, got, want)
				}
			}
			now := time.Now().Unix()
			for _, tc := range []struct {
				why       string
				value, at int64
				want      string
			}{
				{"a new answer", 290_000_000_000, now, "2900 USD chainlink"},
				{"zero", 0, now, "2860 USD llama"},
				{"an answer again", 290_000_000_000, now, "2900 USD chainlink"},
				{"below zero", -1, now, "2860 USD llama"},
				{"an answer again", 290_000_000_000, now, "2900 USD chainlink"},
				{"a round that is older than the heartbeat", 290_000_000_000, now - 3*3600, "2860 USD llama"},
				{"an answer again", 290_000_000_000, now, "2900 USD chainlink"},
				{"a jump by a million", 290_000_000_000_000_000, now, "2860 USD llama"},
			} {
				answer(etherFeed, tc.value, tc.at)
				becomes(tc.why, tc.want)
			}
			s.exec(t, "UPDATE prices SET price_time = now() - interval '21 hours' WHERE token_id = 'EUR'")
			answer(euroFeed, 1_090_000_000_000_000_000, now-20*3600) // within its heartbeat
			testkit.Eventually(t, time.Minute, func() bool {
				p := s.price(t, "", "EUR")[0]
				return priceText(p) == "1.09 USD chainlink" && !p.GetStale()
			})
			if p := s.price(t, "EUR", etherID)[0]; p.GetRate().GetPrice() != "1.09" || p.GetPrice() == "" {
				t.Errorf("in euros: %v", p)
			}
			answer(euroFeed, 1_090_000_000_000_000_000, now-25*3600)
			s.exec(t, "UPDATE prices SET price_time = now() - interval '25 hours' WHERE token_id = 'EUR'")
			testkit.Eventually(t, time.Minute, func() bool {
				return priceText(s.price(t, "EUR", etherID)[0]) == "RATE_STALE"
			})
		})
	}
}
