package holdings_test

import (
	"context"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// inMarkets is a wallet with two markets, of which the first has a lending account.
func inMarkets(id string) *walletv1.WalletHoldings {
	w := walletOf(id, holdingOf("x", "1", 6))
	w.Positions = []*walletv1.MarketPositions{{WalletId: id, Protocol: "aave-v3", Market: "eip155:1:0xp",
		Complete: true, Positions: []*walletv1.Position{{Kind: walletv1.PositionKind_POSITION_KIND_SUPPLIED,
			TokenId: "x",
			Amount:  maxUint256, ReceiptTokenId: "r", YearlyRate: "0.05", Collateral: true, BlockNumber: 9,
			BlockTime: timestamppb.New(time.Unix(5, 0))}, {Kind: walletv1.PositionKind_POSITION_KIND_BORROWED,
			RateMode: walletv1.RateMode_RATE_MODE_STABLE, TokenId: "nobody's", Amount: "7"}},
		Account: &walletv1.LendingAccount{Collateral: "100", Debt: "50", Unit: "10", LiquidationThreshold: "0.8",
			HealthFactor: "1.6", EMode: 1, BlockNumber: 9, BlockTime: timestamppb.New(time.Unix(5, 0))},
	}, {WalletId: id, Protocol: "steth", Market: "eip155:1:0xs", Missing: "its shares",
		Positions: []*walletv1.Position{{Kind: 99, TokenId: "x", Amount: "1"}}}}
	return w
}

func marketsOf(t *testing.T, pages ...*walletv1.GetHoldingsResponse) ([]valuation.Market, error) {
	t.Helper()
	r, _ := reader(t, func(_ context.Context, n int) (*walletv1.GetHoldingsResponse, error) { return pages[n], nil })
	wallets, markets, err := r.Markets(t.Context(), uuid.New())
	if err == nil && len(wallets) == 0 {
		t.Error("no wallets")
	}
	return markets, err
}

func TestPositionsComeWithTheirTokensPricesAndAccounts(t *testing.T) {
	markets, err := marketsOf(t, page(1, inMarkets("a")), page(-1, walletOf("a", holdingOf("y", "1", 6))))
	if err != nil || len(markets) != 2 {
		t.Fatal(markets, err)
	}
	aave, steth := markets[0], markets[1]
	p := aave.Positions[0]
	if p.Amount.String() != maxUint256 || p.Decimals != 6 || p.Price.Amount != "5" || !p.Price.Stale || !p.Known ||
		p.WalletID != "a" || p.Account != "account a" || p.Receipt != "r" || p.YearlyRate != "0.05" ||
		!p.Collateral || p.Kind != valuation.Supplied || p.RateMode != "" || p.Block != 9 || p.BlockTime.Unix() != 5 {
		t.Errorf("the supply is %+v", p)
	}
	if p := aave.Positions[1]; p.Known || p.Price.Known() || p.Price.UnpricedReason != valuation.ReasonUnknownToken ||
		p.TokenID != "nobody's" || p.Amount.Cmp(big.NewInt(7)) != 0 || p.Kind != valuation.Borrowed ||
		p.RateMode != "STABLE" || !p.BlockTime.IsZero() {
		t.Errorf("the debt is %+v", p)
	}
	if a := aave.Lending; a.Collateral.Int64() != 100 || a.Debt.Int64() != 50 || a.Unit.Int64() != 10 ||
		a.Threshold != "0.8" || a.Health != "1.6" || a.EMode != 1 || a.Block != 9 || a.BlockTime.Unix() != 5 {
		t.Errorf("the account is %+v", a)
	}
	if !aave.Complete || aave.Protocol != "aave-v3" || aave.ID != "eip155:1:0xp" || aave.WalletID != "a" {
		t.Errorf("the market is %+v", aave)
	}
	if steth.Complete || steth.Missing != "its shares" || steth.Lending != nil || steth.Positions[0].Kind != "" {
		t.Errorf("the other market, with a position of a kind that is not known, is %+v", steth)
	}
}

func TestNumbersOfPositionsThatAreNoneAreRefused(t *testing.T) {
	for _, text := range []string{"", "-1", "1.5", "1e9", "0x1", strings.Repeat("9", 79), strings.Repeat("9", 1<<20)} {
		amount, unit := inMarkets("a"), inMarkets("a")
		amount.Positions[0].Positions[0].Amount = text
		unit.Positions[0].Account.Unit = text
		for what, w := range map[string]*walletv1.WalletHoldings{"amount": amount, "unit": unit} {
			if _, err := marketsOf(t, page(-1, w)); !errs.Is(err, errs.KindInternal) ||
				!strings.Contains(errs.As(err).Unwrap().Error(), what) {
				t.Errorf("%s %.40q answered %v", what, text, err)
			}
		}
	}
}

// A portfolio is bounded by its positions as by its holdings.
func TestTooManyPositionsAreRefused(t *testing.T) {
	w := walletOf("a")
	for range 1001 {
		m := &walletv1.MarketPositions{}
		for range 100 {
			m.Positions = append(m.Positions, &walletv1.Position{TokenId: "x", Amount: "1"})
		}
		w.Positions = append(w.Positions, m)
	}
	if _, err := marketsOf(t, page(-1, w)); errs.As(err) == nil || errs.As(err).Reason != "TOO_MANY_HOLDINGS" {
		t.Errorf("answered %v", err)
	}
	w.Positions = w.Positions[:1000]
	if markets, err := marketsOf(t, page(-1, w)); err != nil || len(markets) != 1000 {
		t.Errorf("at the limit: %d markets, %v", len(markets), err)
	}
}
