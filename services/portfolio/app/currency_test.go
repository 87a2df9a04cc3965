package app_test

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// fakeRates is the wallet service's prices: EUR has a rate that is computed from the hour, JPY a stale one, GBP none,
// and "eip155:137/slip44:966" the price of the first token of fakeHistory.
type fakeRates struct {
	walletv1.UnimplementedPriceServiceServer
	unavailable atomic.Bool
	calls       atomic.Int64
	tokens      sync.Map // the prices of more tokens and currencies, by id: "" for none, "~1" for a stale one
}

func rateOfHour(h time.Time) string { return fmt.Sprintf("1.%04d", h.Unix()/3600%997) }

func (r *fakeRates) price(id string, h time.Time) (*walletv1.Price, error) {
	p := &walletv1.Price{TokenId: id, Currency: "USD", Source: "test", PriceTime: timestamppb.New(h.Add(-time.Minute))}
	if price, ok := r.tokens.Load(id); ok {
		if price == "" {
			return &walletv1.Price{TokenId: id, UnpricedReason: "NO_PRICE"}, nil
		}
		p.Price, p.Stale = strings.CutPrefix(price.(string), "~")
		return p, nil
	}
	switch id {
	case "EUR":
		p.Price = rateOfHour(h)
	case "JPY":
		p.Price, p.Stale = "0.0067", true
	case "eip155:137/slip44:966":
		_, _, prices, _, _ := hourOfHistory(h)
		p.Price = prices[0]
	case "GBP":
		p = &walletv1.Price{TokenId: id, UnpricedReason: "NO_PRICE"}
	default:
		return &walletv1.Price{TokenId: id, UnpricedReason: "UNKNOWN_TOKEN"}, status.Error(codes.NotFound, "token")
	}
	return p, nil
}

func (r *fakeRates) GetPrices(_ context.Context, req *walletv1.GetPricesRequest) (*walletv1.GetPricesResponse, error) {
	if r.unavailable.Load() {
		return nil, status.Error(codes.Unavailable, "away")
	}
	resp := &walletv1.GetPricesResponse{}
	for _, id := range req.GetTokenIds() {
		p, _ := r.price(id, time.Now().Truncate(time.Hour))
		resp.Prices = append(resp.Prices, p)
	}
	return resp, nil
}

func (r *fakeRates) ListPriceHistory(_ context.Context,
	req *walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error) {
	r.calls.Add(1)
	if r.unavailable.Load() {
		return nil, status.Error(codes.Unavailable, "away")
	}
	if req.GetEndTime().AsTime().After(time.Now()) {
		return nil, status.Error(codes.InvalidArgument, "end_time in the future")
	}
	first := req.GetStartTime().AsTime()
	if req.GetPageToken() != "" {
		var unix int64
		if _, err := fmt.Sscan(req.GetPageToken(), &unix); err != nil {
			return nil, err
		}
		first = time.Unix(unix, 0)
	}
	resp := &walletv1.ListPriceHistoryResponse{}
	for h := first; h.Before(req.GetEndTime().AsTime()); h = h.Add(time.Hour) {
		if len(resp.GetPrices()) == int(req.GetPageSize()) {
			resp.NextPageToken = fmt.Sprint(h.Unix())
			break
		}
		p, err := r.price(req.GetTokenId(), h)
		if err != nil {
			return nil, err
		}
		resp.Prices = append(resp.Prices, &walletv1.HistoricalPrice{HourTime: timestamppb.New(h), Price: p})
	}
	return resp, nil
}

// inCurrency divides and rounds half to even to 8 decimals.
func inCurrency(t *testing.T, usd, rate string) string {
	t.Helper()
	amount, ok := new(big.Rat).SetString(usd)
	price, priced := new(big.Rat).SetString(rate)
	if !ok || !priced {
		t.Fatalf("%q at %q", usd, rate)
	}
	return amount.Quo(amount, price).FloatString(8) // half away from zero: no tie occurs at these rates
}

func TestAPortfolioIsValuedInAnyCurrency(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	get := func(code string, asOf time.Time) (*portfoliov1.Valuation, error) {
		req := &portfoliov1.GetValuationRequest{Currency: code}
		if !asOf.IsZero() {
			req.AsOfTime = timestamppb.New(asOf)
		}
		resp, err := s.GetValuation(ctx, req)
		return resp.GetValuation(), err
	}
	usd, err := get("USD", time.Time{})
	if err != nil || usd.GetCurrency() != "USD" || usd.GetRate() != nil {
		t.Fatalf("%v, %v", usd, err)
	}
	eur, err := get("EUR", time.Time{})
	rate := rateOfHour(time.Now())
	if err != nil || eur.GetCurrency() != "EUR" || !eur.GetComplete() || eur.GetRate().GetSource() != "test" ||
		eur.GetTotal() != inCurrency(t, usd.GetTotal(), eur.GetRate().GetPrice()) ||
		eur.GetPositions()[0].GetValue() != eur.GetTotal() {
		t.Errorf("in euro %v (rate %s), %v", eur, rate, err)
	}
	jpy, err := get("JPY", time.Time{})
	if err != nil || jpy.GetComplete() || !strings.Contains(fmt.Sprint(jpy.GetIncompleteReasons()), "JPY is stale") {
		t.Errorf("with a stale rate %v, %v", jpy, err)
	}
	eth, err := get("eip155:137/slip44:966", time.Time{})
	if err != nil || eth.GetTotal() != inCurrency(t, usd.GetTotal(), eth.GetRate().GetPrice()) {
		t.Errorf("in a token %v, %v", eth, err)
	}
	_, err = get("GBP", time.Time{})
	servicetest.WantError(t, err, errs.KindUnavailable, "RATE_UNAVAILABLE")
	for _, code := range []string{"SEK", "eur", "eip155:1/erc20:0xunknown"} {
		_, err := get(code, time.Time{})
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "currency") ||
			!strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v", code, err)
		}
	}

	// The past has the rates of then, which are read once.
	until := time.Now().UTC().Truncate(time.Hour)
	from := until.Add(-30 * time.Hour)
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	if err != nil {
		t.Fatal(err)
	}
	for h := from; h.Before(from.Add(5 * time.Hour)); h = h.Add(time.Hour) {
		past, err := get("EUR", h.Add(30*time.Minute))
		total, _ := expectedTotal(h)
		if err != nil || past.GetTotal() != inCurrency(t, total, rateOfHour(h)) ||
			past.GetRate().GetPrice() != rateOfHour(h) {
			t.Errorf("at %s %v, want %s at %s (%v)", h, past, total, rateOfHour(h), err)
		}
	}
	s.wallet.rates.unavailable.Store(true)
	calls := s.wallet.rates.calls.Load()
	if _, err := get("EUR", from); err != nil || s.wallet.rates.calls.Load() != calls {
		t.Errorf("a rate that was read is asked for again: %v", err)
	}
	_, err = get("EUR", from.Add(20*time.Hour))
	servicetest.WantError(t, err, errs.KindUnavailable, "RATE_UNAVAILABLE")
}

func TestAPerformanceIsMeasuredInAnyCurrency(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	until := time.Now().UTC().Truncate(time.Hour).Add(-time.Hour)
	from := until.Add(-100 * time.Hour)
	_, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until.Add(time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	measure := func(code, benchmark string) (*portfoliov1.Performance, error) {
		resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(until), Currency: code, Benchmark: benchmark})
		return resp.GetPerformance(), err
	}
	usd, err := measure("", "")
	if err != nil {
		t.Fatal(err)
	}
	eur, err := measure("EUR", "eip155:137/slip44:966")
	if err != nil || eur.GetCurrency() != "EUR" {
		t.Fatalf("%v, %v", eur, err)
	}
	first, last := eur.GetStartTime().AsTime(), eur.GetEndTime().AsTime()
	if eur.GetStartValue() != inCurrency(t, usd.GetStartValue(), rateOfHour(first)) ||
		eur.GetEndValue() != inCurrency(t, usd.GetEndValue(), rateOfHour(last)) {
		t.Errorf("from %s to %s, in US dollars from %s to %s", eur.GetStartValue(), eur.GetEndValue(),
			usd.GetStartValue(), usd.GetEndValue())
	}
	// A benchmark that is not held has the prices of the wallet service, in the currency.
	_, _, before, _, _ := hourOfHistory(first)
	_, _, after, _, _ := hourOfHistory(last)
	number := func(text string) float64 { r, _ := new(big.Rat).SetString(text); f, _ := r.Float64(); return f }
	want := number(after[0])/number(rateOfHour(last))/(number(before[0])/number(rateOfHour(first))) - 1
	if got := eur.GetBenchmark().GetTokenReturn().GetValue(); got-want > 1e-9 || want-got > 1e-9 {
		t.Errorf("the benchmark's return is %v, want %v", got, want)
	}
	_, err = measure("GBP", "")
	servicetest.WantError(t, err, errs.KindUnavailable, "RATE_UNAVAILABLE")
}

// The closes of a timeline are the valuations of their hours, in every currency and interval, and the last hour before
// it is carried forward at its own rate.
func TestATimelineIsInAnyCurrency(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	until := time.Now().UTC().Truncate(time.Hour)
	from := until.Add(-60 * time.Hour)
	_, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	if err != nil {
		t.Fatal(err)
	}
	timeline := func(code string, interval portfoliov1.Interval, from time.Time) []*portfoliov1.TimelinePoint {
		t.Helper()
		resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(until), Interval: interval, Currency: code})
		if err != nil || resp.GetCurrency() != code {
			t.Fatalf("%v, %v", resp, err)
		}
		return resp.GetPoints()
	}
	compared := 0
	for _, code := range []string{"USD", "EUR", "JPY", "eip155:137/slip44:966"} {
		for _, p := range timeline(code, portfoliov1.Interval_INTERVAL_HOURLY, from) {
			v, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: p.GetStartTime(), Currency: code})
			if err != nil || p.GetClose() != v.GetValuation().GetTotal() || p.GetOpen() != p.GetClose() ||
				p.GetMin() != p.GetClose() {
				if p.GetLeftOutCount() == 0 { // which has the value before it
					t.Errorf("in %s at %s the close is %s, the valuation %s, %v", code, p.GetStartTime().AsTime(),
						p.GetClose(), v.GetValuation().GetTotal(), err)
				}
				continue
			}
			compared++
		}
		days, hours := timeline(code, portfoliov1.Interval_INTERVAL_DAILY, from),
			timeline(code, portfoliov1.Interval_INTERVAL_HOURLY, from)
		if last := len(hours) - 1; days[len(days)-1].GetClose() != hours[last].GetClose() {
			t.Errorf("in %s the last day closes at %s, the last hour at %s", code, days[len(days)-1].GetClose(),
				hours[last].GetClose())
		}
	}
	if compared < 150 {
		t.Errorf("only %d hours were compared", compared)
	}
	for _, p := range timeline("GBP", portfoliov1.Interval_INTERVAL_HOURLY, from) {
		t.Errorf("without any rate there is a point: %v", p)
	}
	// While rates can't be read, the hours that have none are left out, and say so.
	s.wallet.rates.unavailable.Store(true)
	s.exec(t, fmt.Sprintf("DELETE FROM currency_rates WHERE currency = 'EUR' AND bucket >= to_timestamp(%d)",
		until.Add(-10*time.Hour).Unix()))
	points := timeline("EUR", portfoliov1.Interval_INTERVAL_HOURLY, until.Add(-20*time.Hour))
	last := points[len(points)-1]
	if !last.GetCarriedForward() || last.GetComplete() || last.GetLeftOutCount() != 1 {
		t.Errorf("an hour without a rate is %v", last)
	}
	after := timeline("EUR", portfoliov1.Interval_INTERVAL_HOURLY, until.Add(-5*time.Hour))
	if len(after) > 0 {
		t.Errorf("after an hour without a rate there are points: %v", after)
	}
}
