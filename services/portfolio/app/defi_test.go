package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// position of the token "usdc", of 6 decimals at 1 USD, or "eth", of 18 at 2,000.
func position(kind walletv1.PositionKind, token, amount, rate string, collateral bool) *walletv1.Position {
	return &walletv1.Position{Kind: kind, TokenId: token, Amount: amount, YearlyRate: rate, Collateral: collateral,
		ReceiptTokenId: "r", BlockNumber: 9, BlockTime: timestamppb.Now()}
}

// setPositions gives the wallet service wallets with these ids, each with 1 ETH in aave-v3 that secures 1,250 USDC:
// 2,000 × 0.75 / 1,250 = 1.2. The first one also has 100 USDC to claim in a market of which something is missing, and
// something of which nothing is known.
func (s service) setPositions(ids ...string) {
	more := &walletv1.GetHoldingsResponse{
		Tokens: []*walletv1.Token{{Id: "eth", Symbol: "WETH", Decimals: 18, Verified: true},
			{Id: "usdc", Symbol: "USDC", Decimals: 6, Verified: true}},
		Prices: []*walletv1.Price{{TokenId: "eth", Price: "2000", Source: "test", PriceTime: timestamppb.Now()},
			{TokenId: "usdc", Price: "1", Source: "test", PriceTime: timestamppb.Now()}}}
	for i, id := range ids {
		w := &walletv1.WalletHoldings{WalletId: id, Account: "eip155:1:" + id,
			Sync: &walletv1.Sync{SyncTime: timestamppb.Now()}}
		w.Positions = []*walletv1.MarketPositions{{WalletId: id, Protocol: "aave-v3", Market: "eip155:1:pool",
			Complete: true, Positions: []*walletv1.Position{
				position(walletv1.PositionKind_POSITION_KIND_SUPPLIED, "eth", "1000000000000000000", "0.02", true),
				position(walletv1.PositionKind_POSITION_KIND_BORROWED, "usdc", "1250000000", "0.05", false)},
			Account: &walletv1.LendingAccount{Collateral: "200000000000", Debt: "125000000000", Unit: "100000000",
				LiquidationThreshold: "0.75", HealthFactor: "1.2", BlockNumber: 9, BlockTime: timestamppb.Now()}}}
		if i == 0 {
			w.Positions = append(w.Positions, &walletv1.MarketPositions{WalletId: id, Protocol: "staking-rewards",
				Market: "eip155:1:farm", Missing: "its stake", Positions: []*walletv1.Position{
					position(walletv1.PositionKind_POSITION_KIND_CLAIMABLE, "usdc", "100000000", "", false),
					position(walletv1.PositionKind_POSITION_KIND_LOCKED, "unlisted", "5", "1e30", false)}})
		}
		more.Wallets = append(more.Wallets, w)
	}
	s.wallet.mu.Lock()
	defer s.wallet.mu.Unlock()
	s.wallet.more = more
}

func ids(n int) (all []string) {
	for range n {
		all = append(all, uuid.NewString())
	}
	return all
}

func worthLine(w *portfoliov1.DefiWorth) string {
	return strings.ReplaceAll(fmt.Sprintf("%s - %s = %s, %s to claim, %d, %d unpriced", w.GetAssets(),
		w.GetLiabilities(), w.GetNet(), w.GetClaimable(), w.GetPositionCount(), w.GetUnpricedCount()), ".00000000", "")
}

func TestPositionsAreValuedWithTheirRates(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.setPositions(ids(2)...)
	ctx, _ := s.newUser(t, "portfolio:read")
	resp, err := s.defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{})
	if err != nil || len(resp.GetMarkets()) != 3 || resp.GetNextPageToken() != "" {
		t.Fatal(resp, err)
	}
	if got := worthLine(resp.GetTotal()); got != "4100 - 2500 = 1600, 100 to claim, 6, 1 unpriced" {
		t.Error(got)
	}
	p := resp.GetMarkets()[0].GetPositions()[0]
	if p.GetTokenAmount() != "1.000000000000000000" || p.GetValue() != "2000.00000000" || p.GetPrice() != "2000" ||
		p.GetSymbol() != "WETH" || !p.GetCollateral() || p.GetReceiptTokenId() != "r" || p.GetYearlyRate() != "0.02" ||
		p.GetApy().GetValue() != "0.020201340020" || p.GetPriceTime() == nil || p.GetBlockNumber() != 9 ||
		p.GetKind() != portfoliov1.PositionKind_POSITION_KIND_SUPPLIED || !p.GetVerified() {
		t.Errorf("the supply is %v", p)
	}
	farm := resp.GetMarkets()[2]
	if farm.GetComplete() || farm.GetMissing() != "its stake" || len(farm.GetPositions()) != 2 ||
		farm.GetPositions()[1].GetUnpricedReason() != "UNKNOWN_TOKEN" || farm.GetPositions()[1].GetValue() != "" ||
		farm.GetPositions()[1].GetApy().GetUnavailableReason() != "RATE_INVALID" {
		t.Errorf("the other market is %v", farm)
	}
	if resp.GetApy().GetValue() != "0.020201340020" || resp.GetEarningValue() != "4000.00000000" ||
		resp.GetBorrowApy().GetValue() != "0.051271096334" || resp.GetBorrowingValue() != "2500.00000000" ||
		resp.GetBadRateCount() != 1 {
		t.Errorf("it earns %v of %s and costs %v of %s", resp.GetApy(), resp.GetEarningValue(), resp.GetBorrowApy(),
			resp.GetBorrowingValue())
	}
	state := resp.GetState()
	if state.GetComplete() || len(state.GetIncompleteReasons()) != 2 || state.GetCurrency() != "USD" ||
		state.GetRate() != nil || state.GetValuationTime() == nil {
		t.Errorf("the state is %v", state)
	}
}

func TestHealthIsToldOfEachAccountAndOfAll(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.setPositions(ids(2)...)
	ctx, _ := s.newUser(t, "portfolio:read")
	resp, err := s.defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{})
	if err != nil || len(resp.GetAccounts()) != 3 {
		t.Fatal(resp, err)
	}
	a := resp.GetAccounts()[0]
	if a.GetHealthFactor().GetValue() != "1.2" || a.GetLiquidatable() || a.GetCollateral() != "2000" ||
		a.GetDebt() != "1250" || a.GetDebtValue() != "1250.00000000" || a.GetLiquidationThreshold() != "0.75" ||
		a.GetLeftOutReason() != "" || a.GetAllCollateralFall().GetValue() != "0.166666666666" ||
		len(a.GetDistances()) != 2 || a.GetDistances()[0].GetFall().GetValue() != "0.166666666666" ||
		a.GetDistances()[1].GetRise().GetValue() != "0.200000000000" || a.GetUnit() != "100000000" {
		t.Errorf("the account is %v", a)
	}
	if farm := resp.GetAccounts()[2]; farm.GetHealthFactor().GetUnavailableReason() != "UNKNOWN" ||
		farm.GetLeftOutReason() != "UNKNOWN" {
		t.Errorf("what is not known is %v", farm)
	}
	if l := resp.GetLowest(); l.GetHealthFactor().GetValue() != "1.2" || l.GetWalletId() != a.GetWalletId() ||
		l.GetUnknownCount() != 1 || l.GetLiquidatableCount() != 0 {
		t.Errorf("the lowest is %v", l)
	}
	if all := resp.GetAggregate(); all.GetHealthFactor().GetValue() != "1.200000000000" ||
		all.GetSecuredValue() != "3000.00000000" || all.GetDebtValue() != "2500.00000000" ||
		all.GetAccountCount() != 2 || all.GetLeftOutCount() != 1 {
		t.Errorf("all together are %v", all)
	}
}

func TestProtocolsAndMarketsSumToTheTotal(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.setPositions(ids(2)...)
	ctx, _ := s.newUser(t, "portfolio:read")
	resp, err := s.defi.GetProtocolBreakdown(ctx, &portfoliov1.GetProtocolBreakdownRequest{Currency: "JPY"})
	if err != nil {
		t.Fatal(err)
	}
	if st := resp.GetState(); st.GetCurrency() != "JPY" || st.GetRate().GetPrice() != "0.0067" || st.GetComplete() {
		t.Errorf("the state is %v", st)
	}
	var got []string
	total := &portfoliov1.ProtocolWorth{Protocol: "total", Worth: resp.GetTotal()}
	for _, p := range append(resp.GetProtocols(), total) {
		got = append(got, fmt.Sprint(p.GetProtocol(), " ", p.GetShare(), " ", worthLine(p.GetWorth())))
	}
	// 2,000 / 0.0067 = 298,507.46268657, twice; 1,250 / 0.0067 = 186,567.16417910, twice; 100 / 0.0067.
	want := `aave-v3 0.97560976 597014.92537314 - 373134.32835820 = 223880.59701494, 0 to claim, 4, 0 unpriced
staking-rewards 0.02439024 14925.37313433 - 0 = 14925.37313433, 14925.37313433 to claim, 2, 1 unpriced
total  611940.29850747 - 373134.32835820 = 238805.97014927, 14925.37313433 to claim, 6, 1 unpriced`
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if p := resp.GetProtocols()[0]; p.GetLowestHealth().GetHealthFactor().GetValue() != "1.2" ||
		p.GetMarkets()[0].GetWalletCount() != 2 || !proto.Equal(p.GetMarkets()[0].GetWorth(), p.GetWorth()) {
		t.Errorf("aave-v3 is %v", p)
	}
}

// Thousands of positions come in pages, each once, and the sums of each page are of all of them.
func TestPositionsComeInPages(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.setPositions(ids(1200)...)
	ctx, _ := s.newUser(t, "portfolio:read")
	seen := map[string]int{}
	pages := 0
	for token := ""; pages == 0 || token != ""; pages++ {
		resp, err := s.defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{PageSize: 500, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range resp.GetMarkets() {
			seen[m.GetWalletId()+m.GetMarket()]++
		}
		if got := worthLine(resp.GetTotal()); got != "2400100 - 1500000 = 900100, 100 to claim, 2402, 1 unpriced" {
			t.Fatal(got)
		}
		token = resp.GetNextPageToken()
	}
	if len(seen) != 1201 || pages != 3 {
		t.Errorf("%d markets on %d pages", len(seen), pages)
	}
	for m, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", m, n)
		}
	}
	resp, err := s.defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{PageSize: 1})
	if err != nil || len(resp.GetAccounts()) != 1 || resp.GetAggregate().GetAccountCount() != 1200 {
		t.Fatal(resp, err)
	}
	_, err = s.defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{PageToken: resp.GetNextPageToken()})
	servicetest.WantViolation(t, err, "page_token")
}

// A portfolio of some wallets has what these have; one of somebody else is not found.
func TestPositionsAreThoseOfThePortfolio(t *testing.T) {
	t.Parallel()
	s := start(t)
	wallets := ids(2)
	s.setPositions(wallets...)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	created, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Second", WalletIds: wallets[1:]})
	if err != nil {
		t.Fatal(err)
	}
	id := created.GetPortfolio().GetId()
	stranger, _ := s.newUser(t, "portfolio:read")
	mayNot, _ := s.newUser(t, "wallet:read")
	for name, call := range map[string]func(context.Context, string, string) (*portfoliov1.DefiWorth, error){
		"positions": func(ctx context.Context, id, currency string) (*portfoliov1.DefiWorth, error) {
			resp, err := s.defi.GetPositions(ctx,
				&portfoliov1.GetPositionsRequest{PortfolioId: id, Currency: currency})
			return resp.GetTotal(), err
		},
		"breakdown": func(ctx context.Context, id, currency string) (*portfoliov1.DefiWorth, error) {
			resp, err := s.defi.GetProtocolBreakdown(ctx,
				&portfoliov1.GetProtocolBreakdownRequest{PortfolioId: id, Currency: currency})
			return resp.GetTotal(), err
		},
		"health": func(ctx context.Context, id, currency string) (*portfoliov1.DefiWorth, error) {
			resp, err := s.defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{PortfolioId: id, Currency: currency})
			if err == nil && (len(resp.GetAccounts()) != 1 || resp.GetAccounts()[0].GetWalletId() != wallets[1]) {
				t.Errorf("the accounts are %v", resp.GetAccounts())
			}
			return nil, err
		},
	} {
		w, err := call(ctx, id, "")
		if err != nil || w != nil && worthLine(w) != "2000 - 1250 = 750, 0 to claim, 2, 0 unpriced" {
			t.Errorf("%s of the portfolio: %v, %v", name, w, err)
		}
		_, err = call(stranger, id, "")
		servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
		_, err = call(mayNot, "", "")
		servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
		_, err = call(ctx, id, "DOGE")
		servicetest.WantViolation(t, err, "currency")
		_, err = call(ctx, "x", "")
		servicetest.WantViolation(t, err, "portfolio_id")
	}
	// The wallet is archived: the portfolio has it no more, as in GetValuation.
	s.setPositions(wallets[:1]...)
	gone, err := s.defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{PortfolioId: id})
	if err != nil || len(gone.GetMarkets()) != 0 || gone.GetTotal().GetNet() != "0.00000000" {
		t.Errorf("without its wallet it has %v, %v", gone, err)
	}
	left, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: id})
	if err != nil || len(left.GetPortfolio().GetWalletIds()) != 0 {
		t.Errorf("the portfolio is %v, %v", left, err)
	}
	s.wallet.setUnavailable(true)
	_, err = s.defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{})
	servicetest.WantError(t, err, errs.KindUnavailable, "WALLET_UNAVAILABLE")
}
