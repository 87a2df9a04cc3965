package app_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// withTwoWallets gives the fake wallet service a second wallet, on another chain.
func (s service) withTwoWallets() {
	more := &walletv1.GetHoldingsResponse{}
	held := func(id, symbol string, verified bool, amount, price string) *walletv1.Holding {
		quote := &walletv1.Price{TokenId: id, Price: price, Source: "test", PriceTime: timestamppb.Now()}
		if price == "" {
			quote = &walletv1.Price{TokenId: id, UnpricedReason: "NO_PRICE"}
		}
		more.Tokens = append(more.Tokens, &walletv1.Token{Id: id, Symbol: symbol, Decimals: 6, Verified: verified})
		more.Prices = append(more.Prices, quote)
		return &walletv1.Holding{TokenId: id, Amount: amount}
	}
	more.Wallets = []*walletv1.WalletHoldings{{WalletId: "w2", Account: "eip155:137:0x2",
		Sync: &walletv1.Sync{SyncTime: timestamppb.Now()}, Holdings: []*walletv1.Holding{
			held("eip155:137/erc20:0xa", "USDC", true, "500000000", "1"),
			held("eip155:137/erc20:0xb", "DAI", true, "250000000", "1"),
			held("eip155:137/erc20:0xc", "NONE", true, "7", ""),
			held("eip155:137/erc20:0xd", "SPAM", false, "9000000", "1000000"),
			held("eip155:137/erc20:0xe", "GONE", true, "0", "5"),
		}}}
	s.wallet.mu.Lock()
	defer s.wallet.mu.Unlock()
	s.wallet.price, s.wallet.more = "1000", more
}

// allocationLines returns the entries as text, one a line, and checks that the shares sum to one.
func allocationLines(t *testing.T, a *portfoliov1.Allocation) string {
	t.Helper()
	var out []string
	shares, values := new(big.Rat), new(big.Rat)
	for _, e := range a.GetEntries() {
		out = append(out, fmt.Sprintf("%s %s %s %d", e.GetLabel(), e.GetValue(), e.GetShare(), e.GetCount()))
		share, _ := new(big.Rat).SetString(e.GetShare())
		value, _ := new(big.Rat).SetString(e.GetValue())
		shares, values = shares.Add(shares, share), values.Add(values, value)
	}
	total, _ := new(big.Rat).SetString(a.GetTotal())
	if shares.Cmp(big.NewRat(1, 1)) != 0 || values.Cmp(total) != 0 {
		t.Errorf("the shares sum to %s and the values to %s of %s", shares.FloatString(12), values.FloatString(8),
			a.GetTotal())
	}
	return strings.Join(out, "\n")
}

func TestAValueIsDividedByEachDimension(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.withTwoWallets()
	ctx, _ := s.newUser(t, "portfolio:read")
	for name, tc := range map[string]struct {
		req  *portfoliov1.GetAllocationRequest
		want string
	}{
		"token": {&portfoliov1.GetAllocationRequest{}, `ETH 1500.00000000 0.66666667 1
USDC 500.00000000 0.22222222 1
DAI 250.00000000 0.11111111 1`},
		"chain": {&portfoliov1.GetAllocationRequest{
			Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_CHAIN},
			"t 1500.00000000 0.66666667 1\neip155:137 750.00000000 0.33333333 2"},
		"wallet": {&portfoliov1.GetAllocationRequest{
			Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET},
			"eip155:1:0x1 1500.00000000 0.66666667 1\neip155:137:0x2 750.00000000 0.33333333 2\n" +
				"eip155:1:0x2 0 0.00000000 0"},
		"protocol": {&portfoliov1.GetAllocationRequest{
			Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_PROTOCOL},
			"wallet 2250.00000000 1.00000000 3"},
		"the largest": {&portfoliov1.GetAllocationRequest{MaxEntries: 1},
			"ETH 1500.00000000 0.66666667 1\nother 750.00000000 0.33333333 2"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := s.GetAllocation(ctx, tc.req)
			if err != nil {
				t.Fatal(err)
			}
			a := resp.GetAllocation()
			if got := allocationLines(t, a); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			apart := map[string]string{}
			for _, u := range a.GetUncounted() {
				apart[u.GetSymbol()] = fmt.Sprint(u.GetUnpricedReason(), u.GetVerified(), u.GetAmount())
			}
			if fmt.Sprint(apart) != "map[NONE:NO_PRICEtrue7 SPAM:false9000000]" || a.GetComplete() {
				t.Errorf("apart are %v, reasons %v", apart, a.GetIncompleteReasons())
			}
		})
	}
}

func TestTheUnpricedShareIsOfTheVerifiedPositions(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	check := func(verified, unpriced int, share string) {
		t.Helper()
		v, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, p := range v.GetValuation().GetPositions() {
			if p.GetVerified() {
				count++
			}
		}
		k, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{})
		if figure := k.GetKpi().GetUnpricedShare(); err != nil || count != verified ||
			int(v.GetValuation().GetUnpricedCount()) != unpriced || v.GetValuation().GetUnpricedShare() != share ||
			figure.GetValue() != share || (figure.GetUnavailableReason() == "NO_VERIFIED_HOLDING") != (share == "") {
			t.Errorf("%d verified positions, %v, %v, %v; want %d, of which %d are unpriced: %q", count, v, k, err,
				verified, unpriced, share)
		}
	}
	s.withTwoWallets()
	check(5, 1, "0.200000000000")
	s.wallet.setOwned()
	ctx, _ = s.newUser(t, "portfolio:read")
	check(0, 0, "")
}

func TestTheWalletsOfThePastAreRefusedWithWhatIsPossible(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.snapshot(ctx, t, "1000")
	at := timestamppb.Now()
	_, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{AsOfTime: at,
		Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET})
	servicetest.WantViolation(t, err, "as_of_time")
	_, err = s.GetAllocation(ctx,
		&portfoliov1.GetAllocationRequest{AsOfTime: timestamppb.New(time.Now().Add(time.Hour))})
	servicetest.WantViolation(t, err, "as_of_time")
	_, err = s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{MaxEntries: -1})
	servicetest.WantViolation(t, err, "max_entries")
	_, err = s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{
		Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET})
	servicetest.WantViolation(t, err, "dimension")
	_, err = s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{TimeZone: "CEST"})
	servicetest.WantViolation(t, err, "time_zone")
	resp, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{AsOfTime: at})
	if err != nil || allocationLines(t, resp.GetAllocation()) != "ETH 1500.00000000 1.00000000 1" {
		t.Error(resp, err)
	}
}

// What the fake wallet's history was made of at the end of each day, of the last hour that is in no price gap.
func TestTheAllocationOverTimeIsThatOfTheStoredHours(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	until := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	from := until.AddDate(0, 0, -5)
	if _, _, err := s.backfill(ctx, from.Add(-6*time.Hour), until.Add(6*time.Hour)); err != nil {
		t.Fatal(err)
	}
	read := func(entries int32) *portfoliov1.GetAllocationHistoryResponse {
		resp, err := s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until), MaxEntries: entries})
		if err != nil || len(resp.GetPoints()) != 5 {
			t.Fatal(resp, err)
		}
		return resp
	}
	resp := read(0)
	for i, point := range resp.GetPoints() {
		h := until.AddDate(0, 0, i-4).Add(-time.Hour)
		for _, _, _, unpriced, failed := hourOfHistory(h); unpriced || failed; {
			h = h.Add(-time.Hour)
			_, _, _, unpriced, failed = hourOfHistory(h)
		}
		total, _ := expectedTotal(h)
		sum, shares := new(big.Rat), new(big.Rat)
		for _, series := range resp.GetSeries() {
			value, _ := new(big.Rat).SetString(series.GetValues()[i])
			share, _ := new(big.Rat).SetString(series.GetShares()[i])
			sum, shares = sum.Add(sum, value), shares.Add(shares, share)
		}
		if point.GetTotal() != total || sum.FloatString(8) != total || !point.GetSnapshotTime().AsTime().Equal(h) ||
			shares.Cmp(big.NewRat(1, 1)) != 0 {
			t.Errorf("point %d of %s: %v, want %s; the series sum to %s and %s", i, h, point, total,
				sum.FloatString(8), shares.FloatString(8))
		}
	}
	folded := read(1).GetSeries()
	if len(folded) != 2 || !folded[1].GetOther() || folded[1].GetValues()[2] != resp.GetSeries()[1].GetValues()[2] {
		t.Errorf("folded to %v", folded)
	}
}
