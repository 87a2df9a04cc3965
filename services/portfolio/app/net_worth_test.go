package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

const lendingPool = "eip155:137:0xpool"

// withLoan gives the fake wallet service a second wallet with 500 USDC, 300 supplied, for which it has a token that
// stands for them, 2000 DAI owed, and rewards of 100 US dollars. missing is what of the market could not be read.
func (s service) withLoan(price, missing string) {
	const usdc, dai, receipt, reward = "eip155:137/erc20:0xa", "eip155:137/erc20:0xb", "eip155:137/erc20:0xc",
		"eip155:137/erc20:0xd"
	more := &walletv1.GetHoldingsResponse{}
	for i, id := range []string{usdc, dai, receipt, reward} {
		more.Tokens = append(more.Tokens, &walletv1.Token{Id: id, Symbol: []string{"USDC", "DAI", "aUSDC", "RWD"}[i],
			Decimals: 6, Verified: true})
		more.Prices = append(more.Prices, &walletv1.Price{TokenId: id, Price: []string{"1", "1", "1", "50"}[i],
			Source: "test", PriceTime: timestamppb.Now()})
	}
	position := func(kind walletv1.PositionKind, token, amount string) *walletv1.Position {
		return &walletv1.Position{Kind: kind, TokenId: token, Amount: amount}
	}
	supply := position(walletv1.PositionKind_POSITION_KIND_SUPPLIED, usdc, "300000000")
	supply.Collateral = true
	more.Wallets = []*walletv1.WalletHoldings{{WalletId: "w2", Account: "eip155:137:0x2",
		Sync: &walletv1.Sync{SyncTime: timestamppb.Now()}, Holdings: []*walletv1.Holding{
			{TokenId: usdc, Amount: "500000000"}, {TokenId: receipt, Amount: "300000000", Receipt: true}},
		Positions: []*walletv1.MarketPositions{{Protocol: "aave-v3", Market: lendingPool, Complete: missing == "",
			Missing: missing, Positions: []*walletv1.Position{
				supply,
				position(walletv1.PositionKind_POSITION_KIND_BORROWED, dai, "2000000000"),
				position(walletv1.PositionKind_POSITION_KIND_CLAIMABLE, reward, "2000000"),
			}}},
	}}
	s.wallet.mu.Lock()
	defer s.wallet.mu.Unlock()
	s.wallet.price, s.wallet.more = price, more
}

func positionLines(positions []*portfoliov1.Position) string {
	var out []string
	for _, p := range positions {
		out = append(out, fmt.Sprintf("%s %s %s %s %.4f", p.GetSymbol(),
			strings.TrimPrefix(p.GetKind().String(), "HOLDING_KIND_"), p.GetProtocol(), p.GetValue(), p.GetShare()))
	}
	return strings.Join(out, "\n")
}

func TestAPortfolioIsWorthItsAssetsLessItsLiabilities(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.withLoan("1000", "")
	taken, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if snap := taken.GetSnapshot(); err != nil || snap.GetTotal() != "400.00000000" || !snap.GetComplete() ||
		snap.GetAssets() != "2400.00000000" || snap.GetLiabilities() != "2000.00000000" ||
		snap.GetCollateral() != "300.00000000" || snap.GetPositionCount() != 5 {
		t.Fatal(snap, err)
	}
	resp, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	v := resp.GetValuation()
	if err != nil || v.GetTotal() != "400.00000000" || v.GetAssets() != "2400.00000000" ||
		v.GetLiabilities() != "2000.00000000" || v.GetCollateral() != "300.00000000" || !v.GetComplete() ||
		!v.GetPositions()[2].GetCollateral() || v.GetPositions()[1].GetCollateral() {
		t.Fatal(v, err)
	}
	const want = "ETH WALLET  1500.00000000 0.6250\nUSDC WALLET  500.00000000 0.2083\n" +
		"USDC SUPPLIED aave-v3 300.00000000 0.1250\nRWD CLAIMABLE aave-v3 100.00000000 0.0417\n" +
		"DAI BORROWED aave-v3 -2000.00000000 0.0000"
	if got := positionLines(v.GetPositions()); got != want {
		t.Errorf("the positions are\n%s\nwant\n%s", got, want)
	}
	if got := positionLines(v.GetReceipts()); got != "aUSDC WALLET  300.00000000 0.0000" {
		t.Errorf("the receipts are %q", got)
	}
	// The snapshot has the same lines.
	resp, err = s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: timestamppb.Now()})
	if got := positionLines(resp.GetValuation().GetPositions()); err != nil || got != want ||
		resp.GetValuation().GetTotal() != "400.00000000" ||
		resp.GetValuation().GetCollateral() != "300.00000000" ||
		!resp.GetValuation().GetPositions()[2].GetCollateral() {
		t.Errorf("the snapshot has\n%s\n%v", got, err)
	}
	k, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{})
	if k := k.GetKpi(); err != nil || k.GetNetWorth() != "400.00000000" || k.GetValue() != k.GetNetWorth() ||
		k.GetAssets() != "2400.00000000" || k.GetLiabilities() != "2000.00000000" || k.GetHoldingCount() != 5 {
		t.Error(k, err)
	}
	s.checkAllocation(ctx, t)
	s.checkFiles(ctx, t)
}

// checkAllocation divides the assets by protocol, and what is owed apart from them.
func (s service) checkAllocation(ctx context.Context, t *testing.T) {
	t.Helper()
	resp, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{
		Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_PROTOCOL})
	a := resp.GetAllocation()
	if err != nil || a.GetTotal() != "400.00000000" || a.GetAssets() != "2400.00000000" ||
		a.GetLiabilities() != "2000.00000000" {
		t.Fatal(a, err)
	}
	var got []string
	for _, e := range slices.Concat(a.GetEntries(), a.GetLiabilityEntries()) {
		got = append(got, e.GetLabel(), e.GetValue(), e.GetShare())
	}
	const want = "wallet 2000.00000000 0.83333333 aave-v3 400.00000000 0.16666667 aave-v3 2000.00000000 1.00000000"
	if strings.Join(got, " ") != want {
		t.Errorf("divided into %v", got)
	}
	history, err := s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{
		Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_PROTOCOL})
	if err != nil || len(history.GetPoints()) != 1 || len(history.GetSeries()) != 2 ||
		history.GetPoints()[0].GetLiabilities() != "2000.00000000" ||
		history.GetPoints()[0].GetTotal() != "400.00000000" ||
		history.GetSeries()[1].GetShares()[0] != "0.16666667" {
		t.Error(history, err)
	}
}

// checkFiles exports both contents in all formats that are text.
func (s service) checkFiles(ctx context.Context, t *testing.T) {
	t.Helper()
	for f, comma := range map[portfoliov1.ExportFormat]rune{portfoliov1.ExportFormat_EXPORT_FORMAT_CSV: ',',
		portfoliov1.ExportFormat_EXPORT_FORMAT_CSV_SEMICOLON: ';'} {
		file, _, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: f})
		if err != nil {
			t.Fatal(err)
		}
		if row := table(t, file, comma)[0]; plainNumber(row["total"]) != "400.00000000" ||
			plainNumber(row["assets"]) != "2400.00000000" || plainNumber(row["liabilities"]) != "2000.00000000" ||
			plainNumber(row["collateral"]) != "300.00000000" {
			t.Errorf("the hour is %v", row)
		}
		file, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: f,
			Content: portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range table(t, file, comma) {
			got = append(got, row["symbol"]+" "+row["kind"]+" "+row["protocol"]+" "+row["market"]+" "+
				plainNumber(row["value"])+" "+strings.ToLower(row["collateral"]))
		}
		slices.Sort(got)
		want := []string{"DAI BORROWED aave-v3 " + lendingPool + " -2000.00000000 false",
			"ETH WALLET   1500.00000000 false", "RWD CLAIMABLE aave-v3 " + lendingPool + " 100.00000000 false",
			"USDC SUPPLIED aave-v3 " + lendingPool + " 300.00000000 true", "USDC WALLET   500.00000000 false"}
		if !slices.Equal(got, want) {
			t.Errorf("the positions are %q", got)
		}
	}
	file, _, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{
		Format: portfoliov1.ExportFormat_EXPORT_FORMAT_JSON_LINES})
	if err != nil || !strings.Contains(string(file), `"assets":"2400.00000000","liabilities":"2000.00000000"`) {
		t.Errorf("%s, %v", file, err)
	}
}

func plainNumber(text string) string { return strings.Replace(text, ",", ".", 1) }

// A portfolio can owe more than it owns. Every figure works then, or says why it is none.
func TestATotalBelowZeroIsToldByAllFigures(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.withLoan("1000", "")
	if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"snapshots", "position_changes", "hour_prices"} {
		s.exec(t, "UPDATE "+table+" SET bucket = bucket - interval '25 hours'")
	}
	s.withLoan("100", "")
	taken, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if snap := taken.GetSnapshot(); err != nil || snap.GetTotal() != "-950.00000000" || snap.GetNetFlow() != "0" ||
		snap.GetAssets() != "1050.00000000" {
		t.Fatal(snap, err)
	}
	line, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{})
	if err != nil {
		t.Fatal(err)
	}
	last := line.GetPoints()[len(line.GetPoints())-1]
	if last.GetClose() != "-950.00000000" || last.GetMin() != "-950.00000000" || last.GetAssets() != "1050.00000000" ||
		last.GetLiabilities() != "2000.00000000" || last.GetCollateral() != "300.00000000" ||
		last.GetNetFlow() != "0" {
		t.Errorf("the last point is %v", last)
	}
	resp, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{})
	k := resp.GetKpi()
	day := k.GetChanges()[0]
	if err != nil || k.GetNetWorth() != "-950.00000000" || day.GetGross().GetValue() != "-1350.00000000" ||
		day.GetNet().GetValue() != "-1350.00000000" || day.GetGrossRatio().GetValue() != "-3.375000000000" ||
		day.GetNetRatio().GetUnavailableReason() != "VALUE_BELOW_ZERO" || k.GetWorst().GetSymbol() != "ETH" ||
		k.GetHighest().GetDrawdown().GetValue() != "-3.375000000000" {
		t.Errorf("%v, %v", k, err)
	}
	of, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{
		GrowthInterval: portfoliov1.Interval_INTERVAL_DAILY})
	p := of.GetPerformance()
	if err != nil || p.GetGain() != "-1350.00000000" || p.GetFlowCount() != 0 {
		t.Fatal(p, err)
	}
	for name, reason := range map[string]string{
		"time-weighted":  p.GetTimeWeighted().GetPeriod().GetUnavailableReason(),
		"money-weighted": p.GetMoneyWeighted().GetPeriod().GetUnavailableReason(),
		"drawdown":       p.GetMaxDrawdown().GetDepth().GetUnavailableReason(),
		"growth":         p.GetGrowth()[len(p.GetGrowth())-1].GetTimeWeighted().GetUnavailableReason(),
	} {
		if reason != "VALUE_BELOW_ZERO" {
			t.Errorf("%s is unavailable for %q", name, reason)
		}
	}
}

// Whether a deposit secures debts is of each hour. To change it moves nothing: there is no flow.
func TestCollateralIsOfEachHour(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	for n, collateral := range []bool{true, false, true} {
		s.withLoan("1000", "")
		s.wallet.mu.Lock()
		s.wallet.more.GetWallets()[0].GetPositions()[0].GetPositions()[0].Collateral = collateral
		s.wallet.mu.Unlock()
		taken, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
		if snap := taken.GetSnapshot(); err != nil || snap.GetTotal() != "400.00000000" ||
			n > 0 && snap.GetNetFlow() != "0" || snap.GetPositionCount() != 5 {
			t.Fatal(snap, err)
		}
		for _, table := range []string{"snapshots", "position_changes", "hour_prices"} {
			s.exec(t, "UPDATE "+table+" SET bucket = bucket - interval '1 hour'")
		}
	}
	line, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range line.GetPoints() {
		got = append(got, p.GetCollateral())
	}
	if !slices.Equal(got[:min(len(got), 3)], []string{"300.00000000", "0", "300.00000000"}) {
		t.Errorf("the collateral is %q", got)
	}
}

// What wallet could not read of a market holds on, and the value isn't complete.
func TestAMarketThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	s.withLoan("1000", "its debts")
	resp, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	v := resp.GetValuation()
	if err != nil || v.GetComplete() || v.GetTotal() != "400.00000000" || len(v.GetIncompleteReasons()) != 1 ||
		!strings.Contains(v.GetIncompleteReasons()[0], "aave-v3 at "+lendingPool+" could not be read: its debts") {
		t.Fatal(v, err)
	}
	taken, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil || taken.GetSnapshot().GetComplete() || taken.GetSnapshot().GetTotal() != "400.00000000" {
		t.Fatal(taken, err)
	}
	s.withLoan("1000", "") // it is read again within the hour
	for deadline := time.Now().Add(time.Minute); !taken.GetSnapshot().GetComplete(); {
		taken, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
		if err != nil || time.Now().After(deadline) {
			t.Fatal(taken, err)
		}
	}
}
