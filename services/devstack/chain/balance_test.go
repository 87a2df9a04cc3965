package chain_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

func TestEveryBalanceAtEveryBlockIsWhatThePlanSays(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	cast := c.Cast()
	holders := map[string]common.Address{
		"alice": cast.Alice.Address, "bob": cast.Bob.Address, "vault": cast.Vault.Address,
		"treasury": cast.Treasury.Address, "other 1": cast.Others[0].Address,
	}
	changed := 0
	for number := uint64(0); number <= c.Head().Number; number += 3 {
		block := new(big.Int).SetUint64(number)
		header, err := r.HeaderByNumber(t.Context(), block)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(header.Time), 0)
		for who, holder := range holders {
			for symbol, asset := range assets(c) {
				if number == 0 && asset != chain.Native() {
					continue // the tokens come in block 1
				}
				want, have := c.Expected(holder, asset, at), r.balance(holder, asset, block)
				if !have.Eq(want) {
					t.Fatalf("block %d: %s has %s %s, the plan says %s", number, who, have, symbol, want)
				}
				if !have.Eq(c.Expected(holder, asset, at.Add(-time.Hour))) {
					changed++
				}
			}
		}
	}
	if changed < 40 {
		t.Errorf("only %d balances changed: this proves little", changed)
	}
}

func TestDemoHoldersHaveSomeZeroBalances(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	cast := c.Cast()
	for _, none := range []struct {
		holder chain.Account
		symbol string
	}{{cast.Alice, "DAI"}, {cast.Bob, "WBTC"}, {cast.Bob, "LINK"}, {cast.Alice, "MAX"}} {
		if b := r.balance(none.holder.Address, token(t, c, none.symbol).Address, nil); !b.IsZero() {
			t.Errorf("%s has %s %s, want none", none.holder.Name, b, none.symbol)
		}
	}
	atFirst := r.balance(cast.Bob.Address, token(t, c, "LINK").Address, big.NewInt(1))
	if atFirst.IsZero() {
		t.Error("bob had no LINK at first, so his zero was never anything else")
	}
}

func TestTheLargestBalanceRoundTripsAndMoves(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	r := dial(t, c)
	cast, maxToken := c.Cast(), token(t, c, "MAX").Address
	all := new(uint256.Int).SetAllOne()

	if have := r.balance(cast.Vault.Address, maxToken, nil); !have.Eq(all) {
		t.Fatalf("the vault has %s, want 2^256-1", have)
	}
	to := common.HexToAddress("0x00000000000000000000000000000000000000a1")
	if _, err := c.Send(t.Context(), cast.Vault, to, maxToken, all); err != nil {
		t.Fatal(err)
	}
	mine(t, c)
	if have := r.balance(to, maxToken, nil); !have.Eq(all) {
		t.Errorf("the receiver has %s, want 2^256-1", have)
	}
	if have := r.balance(cast.Vault.Address, maxToken, nil); !have.IsZero() {
		t.Errorf("the vault has %s left", have)
	}
}

func TestFundsArriveInTheNextBlock(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	r := dial(t, c)
	to := common.HexToAddress("0x00000000000000000000000000000000000000a2")
	amount := uint256.NewInt(123_456_789)
	before := new(big.Int).SetUint64(c.Head().Number)
	for _, asset := range []common.Address{chain.Native(), token(t, c, "USDC").Address} {
		if _, err := c.Fund(t.Context(), to, asset, amount); err != nil {
			t.Fatal(err)
		}
	}
	mine(t, c)
	if c.Head().Number != before.Uint64()+1 {
		t.Fatalf("head is %d, want one block after %s", c.Head().Number, before)
	}
	for _, asset := range []common.Address{chain.Native(), token(t, c, "USDC").Address} {
		if have := r.balance(to, asset, nil); !have.Eq(amount) {
			t.Errorf("asset %s: have %s, want %s", asset, have, amount)
		}
		if have := r.balance(to, asset, before); !have.IsZero() {
			t.Errorf("asset %s: %s already in the block before", asset, have)
		}
	}
}
