package suitetest

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/suite"
)

// contracts reads the embedded chain's contracts at a block.
type contracts struct {
	*ethclient.Client
	t *testing.T
}

func (c contracts) call(artifact string, at common.Address, block uint64, method string, args ...any) []any {
	c.t.Helper()
	a, err := chain.LoadArtifact(artifact)
	if err != nil {
		c.t.Fatal(err)
	}
	input, err := a.ABI.Pack(method, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	raw, err := c.CallContract(c.t.Context(), ethereum.CallMsg{To: &at, Data: input},
		new(big.Int).SetUint64(block))
	if err != nil {
		c.t.Fatalf("%s at block %d: %v", method, block, err)
	}
	out, err := a.ABI.Unpack(method, raw)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// aliceHas is what the contracts of the markets say at a block that Alice gets or owes, by market, kind and the symbol
// of the asset.
func aliceHas(t *testing.T, s *suite.Suite, block uint64) map[string]string {
	t.Helper()
	client, err := ethclient.Dial(s.Chain.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, alice, has := contracts{client, t}, s.Chain.Cast().Alice.Address, map[string]string{}
	at := map[string]common.Address{}
	for _, m := range s.Chain.Markets() {
		at[m.Name] = m.Address
	}
	number := func(artifact string, of common.Address, method string, args ...any) string {
		return c.call(artifact, of, block, method, args...)[0].(*big.Int).String()
	}
	for _, token := range s.Chain.Tokens() {
		if !slices.Contains([]string{"WETH", "USDC", "DAI", "WBTC"}, token.Symbol) {
			continue
		}
		data, err := chain.LoadArtifact("LendingPool")
		if err != nil {
			t.Fatal(err)
		}
		input, err := data.ABI.Pack("getReserveData", token.Address)
		if err != nil {
			t.Fatal(err)
		}
		pool := at[chain.LendingPoolName]
		raw, err := client.CallContract(t.Context(), ethereum.CallMsg{To: &pool, Data: input},
			new(big.Int).SetUint64(block))
		if err != nil {
			t.Fatal(err)
		}
		word := func(i int) common.Address { return common.BytesToAddress(raw[32*i : 32*i+32]) }
		has["aave-v3 SUPPLIED "+token.Symbol] = number("SupplyToken", word(8), "balanceOf", alice)
		has["aave-v3 BORROWED "+token.Symbol] = number("VariableDebtToken", word(10), "balanceOf", alice)
	}
	shares := c.call("YieldVault", at["USDC vault"], block, "balanceOf", alice)[0].(*big.Int)
	has["erc4626 SUPPLIED USDC"] = number("YieldVault", at["USDC vault"], "previewRedeem", shares)
	has["steth STAKED ETH"] = number("StakedEther", at["stETH"], "balanceOf", alice)
	wrapped := c.call("WrappedStakedEther", at["wstETH"], block, "balanceOf", alice)[0].(*big.Int)
	has["wsteth STAKED ETH"] = number("WrappedStakedEther", at["wstETH"], "getStETHByWstETH", wrapped)
	has["staking-rewards STAKED LINK"] = number("StakingRewards", at["LINK staking"], "balanceOf", alice)
	has["staking-rewards CLAIMABLE DAI"] = number("StakingRewards", at["LINK staking"], "earned", alice)
	for name, amount := range has {
		if amount == "0" {
			delete(has, name)
		}
	}
	return has
}

// told are positions as aliceHas has them, without those of the pair, whose number is returned.
func told(t *testing.T, s *suite.Suite, markets []*walletv1.MarketPositions) (has map[string]string, ofPair int) {
	t.Helper()
	symbol := map[string]string{strings.ToLower(fmt.Sprintf("eip155:%d/slip44:60", s.Chain.ChainID())): "ETH"}
	for _, token := range s.Chain.Tokens() {
		id := strings.ToLower(fmt.Sprintf("eip155:%d/erc20:%s", s.Chain.ChainID(), token.Address.Hex()))
		symbol[id] = token.Symbol
	}
	has = map[string]string{}
	for _, m := range markets {
		if !m.GetComplete() {
			t.Errorf("%s: %s", m.GetMarket(), m.GetMissing())
		}
		for _, p := range m.GetPositions() {
			if p.GetKind() == walletv1.PositionKind_POSITION_KIND_LIQUIDITY {
				ofPair++
				continue
			}
			kind := strings.TrimPrefix(p.GetKind().String(), "POSITION_KIND_")
			has[m.GetProtocol()+" "+kind+" "+symbol[strings.ToLower(p.GetTokenId())]] = p.GetAmount()
		}
	}
	return has, ofPair
}

// What wallet tells of positions, now and in each past hour, is what the contracts of the chain say at that block.
func TestPositionsAreThoseOfTheContractsNowAndInThePast(t *testing.T) {
	s := start(t, func(o *suite.Options) { o.Defi, o.History = true, 30*time.Hour })
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	account := fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), s.Chain.Cast().Alice.Address.Hex())
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	synced, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()})
	if err != nil {
		t.Fatal(err)
	}
	held, err := c.Holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	block := synced.GetWallet().GetSync().GetBlockNumber()
	want := aliceHas(t, s, block)
	if len(want) != 8 {
		t.Fatalf("Alice has %v", want)
	}
	check(t, s, fmt.Sprintf("block %d", block), held.GetWallets()[0].GetPositions(), want)
	checkValued(ctx, t, s, c, block, len(want)+2)

	first := held.GetWallets()[0].GetPositions()
	end := s.Chain.Head().Time.Truncate(time.Hour)
	before, with := 0, 0
	hours, _ := readHistory(t, ctx, c, end.Add(-30*time.Hour), end, 1000)
	for _, h := range hours {
		w := h.GetWallets()[0]
		at := h.GetHourTime().AsTime()
		if w.GetSync().GetState() != walletv1.SyncState_SYNC_STATE_SYNCED || w.GetSync().GetError() != "" {
			t.Fatalf("%s: %v", at, w.GetSync())
		}
		of := slices.IndexFunc(h.GetBlocks(), func(b *walletv1.HistoricalBlock) bool {
			return b.GetBlockTime() != nil
		})
		if of < 0 {
			before++
			continue
		}
		number := h.GetBlocks()[of].GetBlockNumber()
		if len(w.GetPositions()) == 0 && number < 4 { // before the contracts were there
			before++
			continue
		}
		with++
		check(t, s, at.String(), w.GetPositions(), aliceHas(t, s, number))
		checkGrowth(t, at.String(), w.GetPositions(), first)
	}
	if before == 0 || with < 24 {
		t.Errorf("%d hours are before the markets and %d have positions", before, with)
	}
}

func check(t *testing.T, s *suite.Suite, when string, markets []*walletv1.MarketPositions, want map[string]string) {
	t.Helper()
	has, ofPair := told(t, s, markets)
	if len(has) != len(want) || ofPair != 2 {
		t.Errorf("%s: told are %v and %d of the pair, the contracts say %v", when, has, ofPair, want)
	}
	for name, amount := range want {
		if has[name] != amount {
			t.Errorf("%s: %s is told as %q, the contract says %s", when, name, has[name], amount)
		}
	}
}

// checkGrowth fails the test unless what interest has made of each position between two blocks, with nothing deposited
// meanwhile, is what its growth index tells.
func checkGrowth(t *testing.T, when string, earlier, later []*walletv1.MarketPositions) {
	t.Helper()
	amounts := func(markets []*walletv1.MarketPositions) map[string]*walletv1.Position {
		out := map[string]*walletv1.Position{}
		for _, m := range markets {
			for _, p := range m.GetPositions() {
				if p.GetGrowthIndex() != "" {
					out[m.GetMarket()+p.GetKind().String()+p.GetTokenId()] = p
				}
			}
		}
		return out
	}
	quotient := func(a, b string) float64 {
		x, okX := new(big.Float).SetString(a)
		y, okY := new(big.Float).SetString(b)
		if !okX || !okY {
			t.Fatalf("%q and %q are no numbers", a, b)
		}
		q, _ := x.Quo(x, y).Float64()
		return q
	}
	was, is := amounts(earlier), amounts(later)
	if len(was) != 6 || len(is) != 6 { // of the pool three, the vault, stETH and wstETH
		t.Fatalf("%s: %d and %d positions have an index", when, len(was), len(is))
	}
	for name, p := range was {
		grown := quotient(is[name].GetAmount(), p.GetAmount())
		index := quotient(is[name].GetGrowthIndex(), p.GetGrowthIndex())
		if diff := grown - index; diff > 1e-8 || diff < -1e-8 || index < 1 {
			t.Errorf("%s: %s has grown by %v, its index by %v", when, name, grown, index)
		}
	}
}
