package app_test

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// disposals are the gains of a token's disposals, and open its open lots, as texts.
func (s service) disposals(ctx context.Context, t *testing.T, token string, o *portfoliov1.LotOptions) string {
	t.Helper()
	resp, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{TokenId: token, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range resp.GetParts() {
		text := p.GetQuantity() + ":" + short(p.GetGain())
		if p.GetLongTerm() {
			text += " long"
		}
		if p.GetRule() != 0 {
			text += " " + strings.TrimPrefix(p.GetRule().String(), "LOT_RULE_")
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (s service) open(ctx context.Context, t *testing.T, token string, o *portfoliov1.LotOptions) string {
	t.Helper()
	resp, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{TokenId: token, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range resp.GetLots() {
		out = append(out, strings.TrimSpace(l.GetWalletId()+" "+l.GetQuantity()+"@"+short(l.GetCost())))
	}
	return strings.Join(out, ", ")
}

func short(money string) string {
	if money == "" {
		return "?"
	}
	return strings.TrimSuffix(strings.TrimRight(money, "0"), ".")
}

const (
	viewUK     = portfoliov1.LotView_LOT_VIEW_UK
	viewUS     = portfoliov1.LotView_LOT_VIEW_US
	viewCanada = portfoliov1.LotView_LOT_VIEW_CANADA
)

// The published examples, from the wallet service's transactions on.
func TestLotsAreThoseOfPublishedExamples(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	for name, tc := range map[string]struct {
		options         *portfoliov1.LotOptions
		trades          []trade
		disposals, open string
	}{
		"HMRC, CRYPTO22251": {&portfoliov1.LotOptions{View: viewUK},
			[]trade{{"2018-01-01", 100, 1000}, {"2019-01-01", 50, 125000}, {"2020-01-01", -50, 300000}},
			"50:258000 POOL", "100@84000"},
		"HMRC, CRYPTO22252": {&portfoliov1.LotOptions{View: viewUK}, []trade{{"2018-01-01", 5000, 500},
			{"2019-07-01", -1000, 800}, {"2019-07-01", 1600, 1000}, {"2019-07-01", -500, 600}},
			"1500:462.5 SAME_DAY", "5100@562.5"},
		"HMRC, CRYPTO22255": {&portfoliov1.LotOptions{View: viewUK}, []trade{{"2018-01-01", 14000, 200000},
			{"2019-08-30", -4000, 160000}, {"2019-09-11", 500, 17500}},
			"500:2500 THIRTY_DAYS, 3500:90000 POOL", "10500@150000"},
		"IRS, VITA": {&portfoliov1.LotOptions{View: viewUS, WashSales: true}, []trade{{"2024-01-02", 100, 1000},
			{"2024-06-03", -100, 750}, {"2024-06-20", 100, 800}}, "100:0", "a 100@1050"},
		"CoinTracker": {&portfoliov1.LotOptions{View: viewUS}, []trade{{"2012-01-01", 1, 100}, {"2016-05-01", 3, 1500},
			{"2017-04-01", -1, 1000}, {"2017-05-15", -2, 4000}}, "1:900 long, 2:3000 long", "a 1@500"},
		"cryptoTax, its fees in the amounts": {&portfoliov1.LotOptions{View: viewCanada}, []trade{
			{"2021-01-01", 100, 5010}, {"2021-02-01", -50, 5990}, {"2021-03-01", 50, 6510}, {"2021-04-01", -40, 3590}},
			"50:3485, 40:-16", "60@5409"},
		"LIFO": {&portfoliov1.LotOptions{Method: portfoliov1.LotMethod_LOT_METHOD_LIFO, PerWallet: true},
			[]trade{{"2021-01-01", 1, 10}, {"2021-01-02", 1, 20}, {"2021-02-01", -1, 50}}, "1:30", "a 1@10"},
	} {
		s.trades(tc.trades...)
		if got := s.disposals(ctx, t, coin, tc.options); got != tc.disposals {
			t.Errorf("%s: disposals %s, want %s", name, got, tc.disposals)
		}
		if got := s.open(ctx, t, coin, tc.options); got != tc.open {
			t.Errorf("%s: open %s, want %s", name, got, tc.open)
		}
	}
}

// A transaction that is found late, or mended, changes what follows it: the answer is that of a service that never
// answered before.
func TestALateTransactionGivesTheSameAsAllAnew(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	all := []trade{{"2021-01-01", 10, 100}, {"2021-02-01", 10, 400}, {"2021-03-01", -5, 300}, {"2021-04-01", -10, 900}}
	s.trades(all[:1:1]...)
	s.disposals(ctx, t, coin, nil)
	for _, some := range [][]trade{{all[0], all[2], all[3]}, all, {all[0], {"2021-02-01", 10, 500}, all[2], all[3]},
		{all[1], all[2]}, all} {
		s.trades(some...)
		fresh := s.replica(t, servicetest.NoRedis, io.Discard)
		if got, want := s.disposals(ctx, t, coin, nil), fresh.disposals(ctx, t, coin, nil); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := s.disposals(ctx, t, coin, nil); got != "5:250, 5:400, 5:250" {
		t.Error(got)
	}
}

func TestGainsAreByTokenWalletAndPeriod(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	day := func(text string) time.Time {
		at, _ := time.Parse(time.RFC3339, text)
		return at
	}
	s.wallet.rates.tokens.Store(usd, "1")
	s.wallet.rates.tokens.Store(coin, "7000000000000000000")
	h := hashOf
	s.ledger(day("2023-01-01T12:00:00Z"), "a in 100000000 usd",
		day("2023-02-01T12:00:00Z"), "a out 10000000 usd "+h(1), "a in 10 coin "+h(1),
		day("2023-03-01T12:00:00Z"), "a out 4 coin "+h(2)+" >b", "b in 4 coin "+h(2)+" >a",
		day("2023-12-31T23:30:00Z"), "a out 2 coin "+h(3), "a in 6000000 usd "+h(3),
		day("2024-05-01T12:00:00Z"), "b out 1 coin "+h(4), "b in 9000000 usd "+h(4), "a adjin 1000000 usd")
	resp, err := s.lots.GetPnl(ctx, &portfoliov1.GetPnlRequest{
		Options: &portfoliov1.LotOptions{PerWallet: true, TimeZone: "Europe/Zurich"},
		GroupBy: []portfoliov1.PnlGroup{portfoliov1.PnlGroup_PNL_GROUP_TOKEN, portfoliov1.PnlGroup_PNL_GROUP_WALLET,
			portfoliov1.PnlGroup_PNL_GROUP_PERIOD}})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, r := range resp.GetRealized() {
		rows = append(rows, fmt.Sprintf("%s %s %s gain %s income %s",
			r.GetPeriodStartTime().AsTime().Format("2006-01-02T15"),
			map[string]string{usd: "usd", coin: "coin"}[r.GetTokenId()], r.GetWalletId(), short(r.GetGain()),
			short(r.GetIncome())))
	}
	want := []string{"2022-12-31T23 usd a gain 0 income 100", "2023-12-31T23 usd a gain 0 income 1",
		"2023-12-31T23 coin a gain 4 income 0", "2023-12-31T23 coin b gain 8 income 0"}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") { // half past midnight of 2024 in Zurich
		t.Errorf("realised\n%s", strings.Join(rows, "\n"))
	}
	rows = nil
	for _, r := range resp.GetUnrealized() {
		rows = append(rows, fmt.Sprintf("%s %s %s %s", map[string]string{usd: "usd", coin: "coin"}[r.GetTokenId()],
			r.GetWalletId(), short(r.GetCost()), short(r.GetGain())))
	}
	if got := strings.Join(rows, ", "); got != "usd a 97 0, usd b 9 0, coin a 4 24, coin b 3 18" {
		t.Errorf("unrealised %s", got)
	}
}

// What has no price is unknown, named with what would mend it, and known once there is one.
func TestWhatHasNoPriceIsNamedWithAFix(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	at := time.Date(2024, 3, 1, 10, 30, 0, 0, time.UTC)
	s.ledger(at, "a in 100 small "+hashOf(1), at.Add(48*time.Hour), "a out 40 small "+hashOf(2))
	resp, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{})
	if err != nil || len(resp.GetParts()) != 1 || resp.GetParts()[0].GetGain() != "" {
		t.Fatal(resp, err)
	}
	u := resp.GetState().GetUnpriced()
	if len(u) != 2 || u[0].GetReason() != "NO_PRICE" || !u[0].GetHourTime().AsTime().Equal(at.Truncate(time.Hour)) ||
		!strings.Contains(u[0].GetFix(), "ImportPrices") || !strings.Contains(u[0].GetFix(), small) ||
		resp.GetState().GetUnpricedCount() != 2 {
		t.Errorf("%v", u)
	}
	// Prices that are not stored yet are read.
	s.wallet.ledger.with(func() {
		for _, m := range s.wallet.ledger.moved {
			m.PriceUnread = true
		}
	})
	s.wallet.rates.unavailable.Store(true)
	resp, err = s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{})
	if err != nil || resp.GetState().GetUnpriced()[0].GetReason() != "SOURCE_UNAVAILABLE" {
		t.Errorf("%v, %v", resp, err)
	}
	s.wallet.rates.unavailable.Store(false)
	s.wallet.rates.tokens.Store(small, "3")
	if got := s.disposals(ctx, t, small, nil); got != "40:0" {
		t.Error(got)
	}
	// In euros of the hour of each: the rates differ.
	eur := &portfoliov1.LotOptions{Currency: "EUR"}
	first, second := inCurrency(t, "3", rateOfHour(at.Truncate(time.Hour))), inCurrency(t, "1.2",
		rateOfHour(at.Add(48*time.Hour).Truncate(time.Hour)))
	part := new(big.Rat)
	part.SetString(first)
	part.Mul(part, big.NewRat(4, 10))
	proceeds, _ := new(big.Rat).SetString(second)
	if got, want := s.disposals(ctx, t, small, eur), "40:"+short(proceeds.Sub(proceeds,
		part).FloatString(8)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// Without a rate nothing has a value.
	resp, err = s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{Options: &portfoliov1.LotOptions{
		Currency: "GBP"}})
	if err != nil || resp.GetState().GetUnpriced()[0].GetReason() != "RATE_UNAVAILABLE" ||
		!strings.Contains(resp.GetState().GetUnpriced()[0].GetFix(), "GBP") {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestPagesOfLotsAreWholeAndOfTheirQueryOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	var all []trade
	at := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 25 {
		all = append(all, trade{at.AddDate(0, 0, 2*i).Format(time.DateOnly), 10, int64(10 + i)},
			trade{at.AddDate(0, 0, 2*i+1).Format(time.DateOnly), -6, 20})
	}
	s.trades(all...)
	whole, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{})
	if err != nil || len(whole.GetParts()) < 60 || whole.GetNextPageToken() != "" {
		t.Fatal(len(whole.GetParts()), err)
	}
	var parts []*portfoliov1.DisposalPart
	req := &portfoliov1.ListDisposalsRequest{PageSize: 7}
	for {
		resp, err := s.lots.ListDisposals(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, resp.GetParts()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if !proto.Equal(&portfoliov1.ListDisposalsResponse{Parts: parts},
		&portfoliov1.ListDisposalsResponse{Parts: whole.GetParts()}) {
		t.Errorf("%d parts on pages, %d at once", len(parts), len(whole.GetParts()))
	}
	lots, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var open []*portfoliov1.Lot
	next := &portfoliov1.ListLotsRequest{PageSize: 3}
	for {
		resp, err := s.lots.ListLots(ctx, next)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp.GetLots()...)
		if next.PageToken = resp.GetNextPageToken(); next.GetPageToken() == "" {
			break
		}
	}
	if !proto.Equal(&portfoliov1.ListLotsResponse{Lots: open}, &portfoliov1.ListLotsResponse{Lots: lots.GetLots()}) {
		t.Errorf("%d lots on pages, %d at once", len(open), len(lots.GetLots()))
	}
	first, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{PageSize: 7})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := s.newUser(t, "portfolio:read", "wallet:read")
	for name, call := range map[string]func() error{
		"other options": func() error {
			_, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{PageToken: first.GetNextPageToken(),
				Options: &portfoliov1.LotOptions{PerWallet: true}})
			return err
		},
		"another range": func() error {
			_, err := s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{PageToken: first.GetNextPageToken(),
				StartTime: timestamppb.New(at)})
			return err
		},
		"another method": func() error {
			_, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{PageToken: first.GetNextPageToken()})
			return err
		},
		"another user": func() error {
			_, err := s.lots.ListDisposals(other,
				&portfoliov1.ListDisposalsRequest{PageToken: first.GetNextPageToken()})
			return err
		},
	} {
		err := call()
		t.Log(name)
		servicetest.WantViolation(t, err, "page_token")
	}
}

func TestWrongOptionsOfLotsAreNamed(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read", "portfolio:write")
	s.trades(trade{"2021-01-01", 10, 10})
	for field, o := range map[string]*portfoliov1.LotOptions{
		"options.method":             {View: viewUK, Method: portfoliov1.LotMethod_LOT_METHOD_LIFO},
		"options.per_wallet":         {View: viewUS, PerWallet: true},
		"options.time_zone":          {TimeZone: "Mars/Olympus"},
		"options.currency":           {Currency: "DOGE"},
		"options.wash_sales":         {WashSales: true},
		"options.security_token_ids": {SecurityTokenIds: []string{coin}},
		"options.same_assets[1].token_ids": {SameAssets: []*portfoliov1.SameAsset{{TokenIds: []string{coin, small}},
			{TokenIds: []string{usd, small}}}},
		"options.same_assets[0].token_ids": {SameAssets: []*portfoliov1.SameAsset{{TokenIds: []string{coin, usd}}}},
	} {
		_, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{Options: o})
		t.Log(field)
		servicetest.WantViolation(t, err, field)
	}
	_, err := s.lots.GetPnl(ctx, &portfoliov1.GetPnlRequest{Options: &portfoliov1.LotOptions{View: viewUK},
		GroupBy: []portfoliov1.PnlGroup{portfoliov1.PnlGroup_PNL_GROUP_WALLET}})
	servicetest.WantViolation(t, err, "group_by")
	_, err = s.lots.ListDisposals(ctx, &portfoliov1.ListDisposalsRequest{StartTime: timestamppb.New(time.Unix(9, 0)),
		EndTime: timestamppb.New(time.Unix(9, 0))})
	servicetest.WantViolation(t, err, "start_time")
	_, err = s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{TokenId: "ETH"})
	servicetest.WantViolation(t, err, "token_id")
	_, err = s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{PortfolioId: uuid.NewString()})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
}

// A portfolio with some wallets has the lots of these, with the costs that moves from others carried.
func TestAPortfolioWithSomeWalletsHasTheirLots(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	a, b := uuid.NewString(), uuid.NewString()
	s.wallet.setOwned(ownedWallet{id: a, amount: "1"}, ownedWallet{id: b, amount: "1"})
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	s.ledger(at, a+" in 10000000 usd", at.Add(time.Hour), a+" out 10000000 usd "+hashOf(1), a+" in 10 coin "+hashOf(1),
		at.Add(2*time.Hour), a+" out 4 coin "+hashOf(2)+" >"+b, b+" in 4 coin "+hashOf(2)+" >"+a)
	made, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "b", WalletIds: []string{b}})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetPortfolio().GetId()
	resp, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{PortfolioId: id,
		Options: &portfoliov1.LotOptions{PerWallet: true}})
	if err != nil || len(resp.GetLots()) != 1 || short(resp.GetLots()[0].GetCost()) != "4" ||
		resp.GetLots()[0].GetWalletId() != b {
		t.Errorf("%v, %v", resp, err)
	}
	_, err = s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{PortfolioId: id})
	servicetest.WantViolation(t, err, "portfolio_id")
	other, _ := s.newUser(t, "portfolio:read", "wallet:read")
	_, err = s.lots.ListLots(other, &portfoliov1.ListLotsRequest{PortfolioId: id})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
}
