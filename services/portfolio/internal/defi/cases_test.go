package defi_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// prices of the tokens of the tests, in US dollars. NONE has none, and SPAM isn't verified.
var prices = map[string]string{"ETH": "2000", "USDC": "1", "DAI": "1", "BTC": "60000", "NONE": "", "SPAM": "1000000"}

// is makes a position of whole tokens of 6 decimals: "10 ETH", with a yearly rate after it or none.
func is(kind valuation.PositionKind, amount string) valuation.ProtocolPosition {
	parts := strings.Fields(amount)
	whole, _, err := apd.NewFromString(parts[0] + "e6")
	if err != nil {
		panic(err)
	}
	n, ok := new(big.Int).SetString(whole.Text('f'), 10)
	if !ok {
		panic(amount)
	}
	price, known := prices[parts[1]]
	p := valuation.ProtocolPosition{Known: known, Kind: kind, Block: 9, BlockTime: noon(),
		Holding: valuation.Holding{TokenID: "eip155:1/erc20:" + parts[1], Amount: n}}
	if known {
		p.Symbol, p.Decimals, p.Verified = parts[1], 6, parts[1] != "SPAM"
		p.Price = valuation.Price{Amount: price, Source: "test", Time: noon()}
	}
	if price == "" {
		p.Price.UnpricedReason = "NO_PRICE"
	}
	if len(parts) > 2 {
		p.YearlyRate = parts[2]
	}
	return p
}

func secures(amount string) valuation.ProtocolPosition {
	p := is(valuation.Supplied, amount)
	p.Collateral = true
	return p
}

func owes(amount string) valuation.ProtocolPosition { return is(valuation.Borrowed, amount) }

// in makes the market of a wallet.
func in(wallet, protocol, id string, positions ...valuation.ProtocolPosition) valuation.Market {
	return valuation.Market{WalletID: wallet, Account: "eip155:1:0x" + wallet, Protocol: protocol,
		ID: "eip155:1:" + id, Complete: true, Positions: positions}
}

// account adds what a market says: collateral and debt in units of 1e-8, threshold and health.
func account(m valuation.Market, collateral, debt int64, threshold, health string) valuation.Market {
	const unit = 100_000_000
	m.Lending = &valuation.LendingAccount{Collateral: new(big.Int).Mul(big.NewInt(collateral), big.NewInt(unit)),
		Debt: new(big.Int).Mul(big.NewInt(debt), big.NewInt(unit)), Unit: big.NewInt(unit), Threshold: threshold,
		Health: health, Block: 9, BlockTime: noon()}
	return m
}

func missing(m valuation.Market, what string) valuation.Market {
	m.Complete, m.Missing = false, what
	return m
}

// valued values markets of wallets that were synced just now.
func valued(t *testing.T, markets ...valuation.Market) defi.State {
	t.Helper()
	return valuedAt(t, currency.USD(), markets...)
}

func valuedAt(t *testing.T, rate currency.Rate, markets ...valuation.Market) defi.State {
	t.Helper()
	s, err := defi.Value(portfolio.InMarkets{At: noon(), Wallets: []valuation.Wallet{{ID: "a", Account: "eip155:1:0xa",
		Synced: true, SyncTime: noon()}}, Markets: markets}, rate)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// text of a figure: its value, ≥ before one that is a lower bound, or its reason.
func text(f defi.Figure) string {
	switch {
	case (f.Value == nil) != (f.Unavailable != ""):
		return "both a value and a reason, or neither"
	case f.Value == nil:
		return f.Unavailable
	case f.AtLeast:
		return "≥" + f.Value.Text('f')
	}
	return f.Value.Text('f')
}

func rat(t *testing.T, d *apd.Decimal) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(d.Text('f'))
	if !ok {
		t.Fatalf("%s is no number", d)
	}
	return r
}
