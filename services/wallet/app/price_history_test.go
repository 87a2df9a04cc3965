package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// pricesOf returns the prices of hours from a time on.
func (s service) pricesOf(t *testing.T, id, currency string, from time.Time, hours int) (out []*walletv1.Price) {
	t.Helper()
	r := &walletv1.ListPriceHistoryRequest{TokenId: id, Currency: currency, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(from.Add(time.Duration(hours) * time.Hour))}
	ctx := s.user(t)
	for i := 0; ; {
		got, err := s.prices.ListPriceHistory(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got.GetPrices() {
			if want := from.Add(time.Duration(i) * time.Hour); !p.GetHourTime().AsTime().Equal(want) {
				t.Fatalf("hour %d is %s, want %s", i, p.GetHourTime().AsTime(), want)
			}
			out = append(out, p.GetPrice())
			i++
		}
		if r.PageToken = got.GetNextPageToken(); r.GetPageToken() == "" {
			break
		}
	}
	if len(out) != hours {
		t.Fatalf("%d hours, want %d", len(out), hours)
	}
	return out
}

func lastHour() time.Time { return time.Now().UTC().Truncate(time.Hour) }

func TestThePastOfAPriceIsReadStoredAndConverted(t *testing.T) {
	s, f, _ := startPriced(t, "llama,imported")
	f.set(func(f *priceFeeds) { f.llama[llamaEther], f.llama["test:euro"] = "2160", "1.08" })
	from := lastHour().Add(-250 * time.Hour)
	for i, p := range s.pricesOf(t, etherID, "EUR", from, 249) { // three pages
		if priceText(p) != "2000 EUR llama" || p.GetStale() || p.GetRate().GetPrice() != "1.08" ||
			!p.GetRate().GetRateTime().AsTime().Equal(from.Add(time.Duration(i)*time.Hour)) {
			t.Fatalf("hour %d: %v", i, p)
		}
	}
	before := f.count()
	f.set(func(f *priceFeeds) { f.status = 500 })
	for i, p := range s.pricesOf(t, etherID, "", from, 249) {
		if priceText(p) != "2160 USD llama" || p.GetRate() != nil {
			t.Fatalf("stored, hour %d: %v", i, p)
		}
	}
	if f.count() != before {
		t.Errorf("stored hours were read again: %d requests", f.count()-before)
	}
	if p := s.pricesOf(t, aaa, "", from, 3)[0]; priceText(p) != "SOURCE_UNAVAILABLE" {
		t.Errorf("while the source is away: %v", p)
	}
	if p := s.pricesOf(t, etherID, "GBP", from, 3)[0]; priceText(p) != "RATE_UNAVAILABLE" {
		t.Errorf("without a rate: %v", p)
	}
	if p := s.pricesOf(t, "EUR", "", from, 1)[0]; priceText(p) != "1.08 USD llama" {
		t.Errorf("the euro: %v", p)
	}
}

// A token that was found only now has a past all the same.
func TestATokenThatIsFoundLateGetsItsPast(t *testing.T) {
	s, f, _ := startPriced(t, "llama,imported")
	late := "eip155:1/erc20:0x00000000000000000000000000000000000000ff"
	from := lastHour().Add(-5 * time.Hour)
	r := &walletv1.ListPriceHistoryRequest{TokenId: late, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(from.Add(4 * time.Hour))}
	_, err := s.prices.ListPriceHistory(s.user(t), r)
	if !errs.Is(err, errs.KindNotFound) {
		t.Fatalf("before it is known: %v", err)
	}
	s.exec(t, `INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified, discovered)
		VALUES ($1, 'eip155:1', split_part($1, ':', 3), 'LATE', 'Late', 18, false, true)`, late)
	f.set(func(f *priceFeeds) { f.llama["ethereum:0x00000000000000000000000000000000000000ff"] = "3" })
	for _, p := range s.pricesOf(t, late, "", from, 4) {
		if priceText(p) != "3 USD llama" {
			t.Errorf("%v", p)
		}
	}
}

func TestPagesOfPastPricesThatAreNotStoredAreLimited(t *testing.T) {
	s, f, _ := startPriced(t, "llama", "PURSER_PRICE_READS_PER_MINUTE=2")
	f.set(func(f *priceFeeds) { f.llama[llamaEther] = "5" })
	ctx := s.user(t)
	ask := func(ctx context.Context, day int) error {
		from := lastHour().AddDate(0, 0, -day)
		_, err := s.prices.ListPriceHistory(ctx, &walletv1.ListPriceHistoryRequest{TokenId: etherID,
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(from.Add(time.Hour))})
		return err
	}
	for day := range 2 {
		if err := ask(ctx, day+1); err != nil {
			t.Fatal(err)
		}
	}
	servicetest.WantError(t, ask(ctx, 3), errs.KindExhausted, "TOO_MANY_PRICE_READS")
	if err := ask(ctx, 1); err != nil {
		t.Errorf("a stored page: %v", err)
	}
	if err := ask(s.user(t), 3); err != nil {
		t.Errorf("another caller: %v", err)
	}
}

func TestBadRequestsForPastPricesNameTheirField(t *testing.T) {
	s, _, _ := startPriced(t, "llama")
	ctx := s.user(t)
	until := lastHour()
	good := func() *walletv1.ListPriceHistoryRequest {
		return &walletv1.ListPriceHistoryRequest{TokenId: etherID,
			StartTime: timestamppb.New(until.Add(-200 * time.Hour)), EndTime: timestamppb.New(until)}
	}
	first, err := s.prices.ListPriceHistory(ctx, good())
	if err != nil || len(first.GetPrices()) != 100 || first.GetNextPageToken() == "" {
		t.Fatal(len(first.GetPrices()), err)
	}
	for field, change := range map[string]func(*walletv1.ListPriceHistoryRequest){
		"token_id": func(r *walletv1.ListPriceHistoryRequest) { r.TokenId = "ETH" },
		"currency": func(r *walletv1.ListPriceHistoryRequest) { r.Currency = "euro" },
		"end_time": func(r *walletv1.ListPriceHistoryRequest) {
			r.EndTime = timestamppb.New(time.Now().Add(time.Hour))
		},
		"page_size": func(r *walletv1.ListPriceHistoryRequest) { r.PageSize = 501 },
		"start_time": func(r *walletv1.ListPriceHistoryRequest) {
			r.StartTime = timestamppb.New(time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC))
		},
		"page_token": func(r *walletv1.ListPriceHistoryRequest) {
			r.TokenId, r.PageToken = aaa, first.GetNextPageToken()
		},
	} {
		r := good()
		change(r)
		_, err := s.prices.ListPriceHistory(ctx, r)
		if rule := servicetest.WantViolation(t, err, field); rule == "" {
			t.Errorf("%s has no rule", field)
		}
	}
	r := good()
	r.TokenId, r.Currency = "ETH", "euro"
	_, err = s.prices.ListPriceHistory(ctx, r)
	if text := fmt.Sprint(err); !strings.Contains(text, "token_id") || !strings.Contains(text, "currency") {
		t.Errorf("of two mistakes it tells %s", text)
	}
	for _, permission := range []string{"wallet:write", "prices:import"} {
		_, err := s.prices.ListPriceHistory(s.may(t, permission), good())
		servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	}
	_, err = s.prices.ImportPrices(s.may(t, "prices:import"), &walletv1.ImportPricesRequest{
		RequestId: uuid.Nil.String(), Prices: []*walletv1.ImportedPrice{{TokenId: strings.Repeat("x", 161)}}})
	if err == nil {
		t.Error("taken")
	}
}
