package defi_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// newVault sets the answers of a vault in which Alice has 10 shares that pay 11, and Bob none.
func newVault(c *fakeChain, vault common.Address) {
	c.set(words(tokenA), vault, "asset()")
	c.set(words(100), vault, "totalSupply()")
	c.set(words(10), vault, "balanceOf(address)", alice)
	c.set(words(0), vault, "balanceOf(address)", bob)
	c.set(words(11), vault, "previewRedeem(uint256)", 10)
}

func TestAMarketThatIsNotWhatTheSettingSaysHarmsNoOther(t *testing.T) {
	c := &fakeChain{}
	vault := common.Address{0xee}
	newVault(c, vault)
	for _, protocol := range defi.Protocols() {
		for name, answer := range map[string][]byte{"no code": nil, "nothing": {}, "a short word": make([]byte, 31),
			"a long one": make([]byte, 64), "zero": make([]byte, 32), "no address": words(strings.Repeat("9", 77))} {
			c.rest = map[common.Address][]byte{market: answer}
			alices, bobs := c.read(t, at(protocol, market), at("erc4626", vault))
			if got := of(alices[0]); !strings.HasPrefix(got, "missing: ") {
				t.Errorf("%s that answers %s is read as %s", protocol, name, got)
			}
			if of(alices[1]) != "SUPPLIED 11 erc20:0x" || of(bobs[1]) != "" {
				t.Errorf("beside it the vault is read as %s, and %s", of(alices[1]), of(bobs[1]))
			}
		}
	}
}

func TestThePageNamesEachProtocol(t *testing.T) {
	const file = "docs/adapters.md"
	page, err := os.ReadFile(filepath.FromSlash("../../../../" + file))
	if err != nil {
		t.Fatal(err)
	}
	var rows string // the first cells of its table
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			rows += cells[1]
		}
	}
	for _, protocol := range defi.Protocols() {
		if !strings.Contains(rows, "`"+protocol+"`") {
			t.Errorf("%s has no row for %s in its table of protocols", file, protocol)
		}
	}
	if named := strings.Count(rows, "`") / 2; named != len(defi.Protocols()) {
		t.Errorf("%s names %d protocols, and there are %d", file, named, len(defi.Protocols()))
	}
}

func TestAChainThatCannotBeReadLeavesAllUnknown(t *testing.T) {
	for name, change := range map[string]func(*fakeChain){
		"an error":            func(c *fakeChain) { c.err = errors.New("secret") },
		"too few answers":     func(c *fakeChain) { c.short = true },
		"calls that all fail": func(c *fakeChain) { c.answers = nil },
	} {
		c := &fakeChain{}
		newVault(c, market)
		change(c)
		alices, bobs := c.read(t, at("erc4626", market))
		for _, r := range []defi.Reading{alices[0], bobs[0]} {
			if r.Missing == "" || r.HasAny() || strings.Contains(r.Missing, "secret") {
				t.Errorf("%s: read as %s", name, of(r))
			}
		}
	}
}

func TestAVaultIsWorthWhatRedeemingAllPays(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fakeChain)
		want   string
	}{
		{"sound", func(*fakeChain) {}, "SUPPLIED 11 erc20:0x"},
		{"worth nothing", func(c *fakeChain) { c.set(words(0), market, "previewRedeem(uint256)", 10) },
			"SUPPLIED 0 erc20:0x"},
		{"a revert", func(c *fakeChain) { c.set(nil, market, "previewRedeem(uint256)", 10) },
			"missing: the value of its shares"},
		{"success with nothing", func(c *fakeChain) { c.set([]byte{}, market, "previewRedeem(uint256)", 10) },
			"missing: the value of its shares"},
		{"two words", func(c *fakeChain) { c.set(words(1, 2), market, "previewRedeem(uint256)", 10) },
			"missing: the value of its shares"},
		{"an unread balance", func(c *fakeChain) { c.set(nil, market, "balanceOf(address)", alice) },
			"missing: its balance of shares"},
		{"shares of an empty vault", func(c *fakeChain) { c.set(words(0), market, "totalSupply()") },
			"missing: the value of its shares: they are more than the contract says that there are"},
	} {
		c := &fakeChain{}
		newVault(c, market)
		tc.change(c)
		alices, bobs := c.read(t, at("erc4626", market))
		if got := of(alices[0]); got != tc.want {
			t.Errorf("%s: read as %s, want %s", tc.name, got, tc.want)
		}
		if of(bobs[0]) != "" || len(bobs[0].Positions) != 1 || !bobs[0].Positions[0].Ended {
			t.Errorf("%s: Bob's is read as %+v", tc.name, bobs[0])
		}
	}
}

func TestASettingOfMarketsNamesEachWrongEntry(t *testing.T) {
	const good = "erc4626@eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	var ms defi.Markets
	other := "aave-v3@eip155:10:0x" + strings.Repeat("a", 40)
	if err := ms.UnmarshalText([]byte(" " + good + " ,, " + other)); err != nil || len(ms) != 2 ||
		ms[0].String() != strings.ToLower(good) || ms[0].Account() != good[len("erc4626@"):] ||
		ms.String() != ms[0].String()+","+ms[1].String() {
		t.Fatalf("read as %v, %v", ms, err)
	}
	text := "ERC4626@eip155:1:0x0,erc4626@eip155:1:0x12,erc4626," + good + "," + strings.ToLower(good)
	err := ms.UnmarshalText([]byte(text))
	if err == nil {
		t.Fatal("wrong entries are taken")
	}
	for _, want := range []string{
		`entry "ERC4626@eip155:1:0x0": protocol must be one of aave-v3, compound-v3, erc4626`,
		`entry "erc4626@eip155:1:0x12": contract address must be 0x and 40`,
		`entry "erc4626": must read <protocol>@<CAIP-10`, "stands there twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if err := ms.Check("M", "N", func(chain uint64) bool { return chain != 1 }); err == nil ||
		!strings.Contains(err.Error(), `M: entry "`+strings.ToLower(good)+`": N has no node of chain 1`) {
		t.Errorf("without a node: %v", err)
	}
	many := make([]string, 201)
	for i := range many {
		many[i] = at("steth", common.Address{0xcc, byte(i / 256), byte(i)})
	}
	if err := ms.UnmarshalText([]byte(strings.Join(many, ","))); err == nil {
		t.Error("201 entries are taken")
	}
}

func TestAPastHourHasNoMarketsThatWereNotThereYet(t *testing.T) {
	c := &fakeChain{}
	newVault(c, market)
	ms := defi.Markets{{Protocol: "erc4626", Chain: 1, Contract: market},
		{Protocol: "aave-v3", Chain: 1, Contract: common.Address{0xcc, 1}},
		{Protocol: "steth", Chain: 1, Contract: common.Address{0xcc, 2}}}
	s := defi.NewService(ms, c, slog.New(slog.DiscardHandler))
	past := func() (texts []string) {
		read, err := s.ReadPast(t.Context(), 1, atBlock, []common.Address{alice, bob}, new(defi.Calls))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range read[0] {
			texts = append(texts, r.Protocol+" "+of(r))
		}
		if len(read) != 2 || len(read[1]) != len(read[0]) {
			t.Errorf("read for %d holders: %v", len(read), read)
		}
		return texts
	}
	missing := func(texts []string) bool { return strings.Contains(strings.Join(texts, ";"), "missing: ") }
	if texts := past(); len(texts) != 3 || !missing(texts) { // the control: contracts that answer something else
		t.Errorf("contracts of other kinds are read as %q", texts)
	}
	c.withoutCode = []common.Address{{0xcc, 1}, {0xcc, 2}}
	if texts := past(); len(texts) != 1 || texts[0] != "erc4626 SUPPLIED 11 erc20:0x" {
		t.Errorf("before the contracts were there: %q", texts)
	}
	c.codeErr = errors.New("no node answers")
	if texts := past(); len(texts) != 3 || !missing(texts) {
		t.Errorf("while it is not known whether they were there: %q", texts)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	read, err := s.ReadPast(ended, 1, atBlock, []common.Address{alice}, new(defi.Calls))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v, %v", read, err)
	}
	if s.Markets(1) != 3 || s.Markets(2) != 0 {
		t.Errorf("%d and %d markets", s.Markets(1), s.Markets(2))
	}
}

// What is asked at once is asked of the block itself: a share that pays more is seen, and so is a holder who came.
func TestReadingsThatShareCallsAskOnce(t *testing.T) {
	c := &fakeChain{}
	newVault(c, market)
	s := defi.NewService(defi.Markets{{Protocol: "erc4626", Chain: 1, Contract: market}}, c,
		slog.New(slog.DiscardHandler))
	calls := new(defi.Calls)
	read := func(calls *defi.Calls) (asked int, alices, bobs string) {
		c.asked = 0
		read, err := s.ReadPast(t.Context(), 1, atBlock, []common.Address{alice, bob}, calls)
		if err != nil {
			t.Fatal(err)
		}
		return c.asked, of(read[0][0]), of(read[1][0])
	}
	const had = "SUPPLIED 11 erc20:0x"
	first, alices, bobs := read(calls)
	if first < 2 || alices != had || bobs != "" {
		t.Fatalf("the first reading: %d requests, %q, %q", first, alices, bobs)
	}
	if asked, alices, bobs := read(calls); asked != 1 || alices != had || bobs != "" {
		t.Errorf("one that shares its calls: %d requests, %q, %q", asked, alices, bobs)
	}
	if asked, _, _ := read(new(defi.Calls)); asked != first { // the control
		t.Errorf("one that doesn't: %d requests, not %d", asked, first)
	}
	c.set(words(12), market, "previewRedeem(uint256)", 10)
	c.set(words(20), market, "balanceOf(address)", bob)
	c.set(words(24), market, "previewRedeem(uint256)", 20)
	const has = "SUPPLIED 12 erc20:0x"
	if asked, alices, bobs := read(calls); asked != 2 || alices != has || bobs != "SUPPLIED 24 erc20:0x" {
		t.Errorf("after changes: %d requests, %q, %q", asked, alices, bobs)
	}
	if asked, alices, _ := read(calls); asked != 1 || alices != has {
		t.Errorf("after it: %d requests, %q", asked, alices)
	}
	c.short = true
	if _, alices, _ := read(calls); !strings.HasPrefix(alices, "missing: ") {
		t.Errorf("with an answer too few: %q", alices)
	}
}
