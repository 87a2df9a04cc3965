package chain_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

func ninetyDays() (chain.Plan, time.Time) {
	start := anchor().Add(-90 * 24 * time.Hour)
	return chain.Plan{Start: start, Every: time.Hour, Seed: 1}, anchor()
}

func TestNobodyEverSpendsMoreThanTheyHave(t *testing.T) {
	plan, end := ninetyDays()
	type position struct{ holder, asset common.Address }
	sums := map[position]*uint256.Int{}
	sum := func(holder, asset common.Address) *uint256.Int {
		p := position{holder, asset}
		if sums[p] == nil {
			sums[p] = new(uint256.Int)
		}
		return sums[p]
	}
	treasury := chain.DevCast().Treasury.Address
	for _, m := range plan.Moves(end) {
		if m.Amount.IsZero() {
			t.Fatalf("a move of nothing at %s", m.At)
		}
		from, to := sum(m.From, m.Asset), sum(m.To, m.Asset)
		funded := m.From == (common.Address{}) || (m.From == treasury && m.Asset == chain.Native())
		if !funded && from.Lt(m.Amount) {
			t.Fatalf("%s sends %s of %s with %s in hand", m.From, m.Amount, m.Asset, from)
		}
		from.Sub(from, m.Amount)
		to.Add(to, m.Amount)
	}
}

func TestHoldersMoveMostDaysInEveryAssetTheyDealIn(t *testing.T) {
	plan, end := ninetyDays()
	cast := chain.DevCast()
	days := map[common.Address]map[time.Time]bool{}
	for _, m := range plan.Moves(end) {
		for _, holder := range []common.Address{cast.Alice.Address, cast.Bob.Address} {
			if m.From == holder || m.To == holder {
				if days[holder] == nil {
					days[holder] = map[time.Time]bool{}
				}
				days[holder][m.At.Truncate(24*time.Hour)] = true
			}
		}
	}
	for holder, active := range days {
		if len(active) < 85 {
			t.Errorf("%s moves on %d of 90 days", holder, len(active))
		}
	}
	if len(days) != 2 {
		t.Errorf("%d holders move", len(days))
	}
}

func TestBalancesBeforeTheFirstStepAreZero(t *testing.T) {
	plan, _ := ninetyDays()
	alice := chain.DevCast().Alice.Address
	for _, at := range []time.Time{plan.Start.Add(-time.Hour), plan.Start, plan.Start.Add(time.Hour - 1)} {
		if b := plan.Balance(alice, chain.Native(), at); !b.IsZero() {
			t.Errorf("at %s alice has %s", at, b)
		}
	}
	if b := plan.Balance(alice, chain.Native(), plan.Start.Add(time.Hour)); b.IsZero() {
		t.Error("alice has nothing at the first step")
	}
}

func TestAccountsAndTokensHaveConstantAddresses(t *testing.T) {
	var have []string
	for _, token := range chain.SeededTokens() {
		have = append(have, token.Symbol+" "+token.Address.Hex())
	}
	cast := chain.DevCast()
	for _, a := range []chain.Account{cast.Alice, cast.Bob, cast.Vault} {
		have = append(have, a.Name+" "+a.Address.Hex())
	}
	want := []string{
		"WETH 0x53aD3834B2B27b1909090e3A67aD819d86B3AC4C",
		"USDC 0x225887CC7A6D46dbDc661cb3C27A9401b114Cea7",
		"WBTC 0x4e74FE5af7E1A40bD8FE0F44b185c3D970C8a7Df",
		"LINK 0x283D7147D6631819eD1111b9041076aB27F3DAf2",
		"DAI 0x79D379786Cd90A3aE416DE5e2FA6074961fDF3Fd",
		"MAX 0xed81FC2D5433050b1B4e1a6e297fA81F0EDdbfE0",
		"alice 0xC4a971f1092156efcE182085455CC84A3b633103",
		"bob 0x6E1825154D98D5b539FaF8d2CDAd08887452D3Fe",
		"vault 0xC207ba63BBD7B69151D67DaaABbe1Aa11bAA4410",
	}
	if !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
}
