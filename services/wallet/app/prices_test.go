package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

func (s service) price(t *testing.T, currency string, ids ...string) []*walletv1.Price {
	t.Helper()
	got, err := s.prices.GetPrices(s.user(t), &walletv1.GetPricesRequest{TokenIds: ids, Currency: currency})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetPrices()
}

// priceText is a price, its currency and its source, or why there is none.
func priceText(p *walletv1.Price) string {
	if p.GetUnpricedReason() != "" {
		return p.GetUnpricedReason()
	}
	return p.GetPrice() + " " + p.GetCurrency() + " " + p.GetSource()
}

func TestAPriceComesFromTheNextSourceWhileTheFirstIsAway(t *testing.T) {
	s, f, logs := startPriced(t, "llama,coingecko,imported")
	f.set(func(f *priceFeeds) { f.llama[llamaEther], f.gecko["ethereum"] = "2000", "2001" })
	if p := s.price(t, "", etherID)[0]; priceText(p) != "2000 USD llama" || p.GetDisagreement() != nil {
		t.Errorf("%v", p)
	}
	f.set(func(f *priceFeeds) { delete(f.llama, llamaEther) })
	testkit.Eventually(t, time.Minute, func() bool { // after its refresh period
		return priceText(s.price(t, "", etherID)[0]) == "2001 USD coingecko"
	})
	f.set(func(f *priceFeeds) { f.llama[llamaEther], f.gecko["ethereum"] = "2000", "2400" })
	testkit.Eventually(t, time.Minute, func() bool {
		p := s.price(t, "", etherID)[0]
		return priceText(p) == "2000 USD llama" && p.GetDisagreement().GetSource() == "coingecko" &&
			p.GetDisagreement().GetPrice() == "2400"
	})
	if !strings.Contains(logs.String(), "price sources disagree") {
		t.Error("the disagreement is not logged")
	}
	f.set(func(f *priceFeeds) { f.status = 429 })
	testkit.Eventually(t, time.Minute, func() bool {
		if p := s.price(t, "", etherID)[0]; priceText(p) != "2000 USD llama" {
			t.Fatalf("while all are away: %v", p)
		}
		return strings.Contains(logs.String(), "price source failed")
	})
}

func TestPricesInOtherCurrencies(t *testing.T) {
	s, f, _ := startPriced(t, "llama,coingecko,imported")
	f.set(func(f *priceFeeds) {
		f.llama[llamaEther], f.llama["test:euro"] = "2160", "1.08"
		f.llama["ethereum:"+tokenContract] = "540"
		f.gecko = map[string]string{"usd": "60000", "jpy": "9000000", "gbp": "48000"} // and no CHF
	})
	for currency, want := range map[string]string{
		"": "2160 USD llama", "USD": "2160 USD llama", "EUR": "2000 EUR llama", "JPY": "324000",
		"GBP": "1728 GBP llama", "CHF": "NO_RATE", aaa: "4 " + aaa + " llama", etherID: "1 " + etherID + " llama",
		"eip155:137/slip44:966": "NO_RATE",
	} {
		p := s.price(t, currency, etherID)[0]
		got := priceText(p)
		if currency == "JPY" { // of a rate of 0.00666…
			if !strings.HasPrefix(got, want) && !strings.HasPrefix(got, "323999.99") {
				t.Errorf("in yen: %s", got)
			}
			got = want
		}
		if got != want {
			t.Errorf("in %q: %s, want %s", currency, got, want)
		}
		if hasRate := p.GetRate() != nil; hasRate != (want != "NO_RATE" && currency != "" && currency != "USD") {
			t.Errorf("in %q the rate is %v", currency, p.GetRate())
		}
	}
	if r := s.price(t, "EUR", etherID)[0].GetRate(); r.GetPrice() != "1.08" || r.GetSource() != "llama" ||
		r.GetRateTime() == nil {
		t.Errorf("the rate of the euro is %v", r)
	}
	if p := s.price(t, "", "EUR", "GBP")[1]; priceText(p) != "1.25 USD coingecko" {
		t.Errorf("a pound costs %v", p)
	}
	for _, currency := range []string{"eur", "XAU", "Euro", "eip155:1/erc20:0x1"} {
		_, err := s.prices.GetPrices(s.user(t), &walletv1.GetPricesRequest{TokenIds: []string{etherID},
			Currency: currency})
		rule := servicetest.WantViolation(t, err, "currency")
		if !strings.Contains(rule, "USD, EUR, GBP, CHF or JPY") {
			t.Errorf("%s: %s", currency, rule)
		}
	}
	_, err := s.prices.GetPrices(s.user(t), &walletv1.GetPricesRequest{TokenIds: []string{etherID},
		Currency: "eip155:1/erc20:0x00000000000000000000000000000000000000aa"})
	servicetest.WantViolation(t, err, "currency")
	s.exec(t, "UPDATE prices SET price_time = now() - interval '3 hours' WHERE token_id = 'EUR'")
	f.set(func(f *priceFeeds) { f.status = 500 })
	if p := s.price(t, "EUR", etherID)[0]; priceText(p) != "RATE_STALE" || p.GetPrice() != "" {
		t.Errorf("with an old rate: %v", p)
	}
	s.exec(t, "DELETE FROM prices WHERE token_id = 'EUR'")
	if p := s.price(t, "EUR", etherID)[0]; priceText(p) != "RATE_UNAVAILABLE" {
		t.Errorf("without a rate: %v", p)
	}
}

// imported is a row of ImportPrices.
func imported(id, value string, at time.Time) *walletv1.ImportedPrice {
	return &walletv1.ImportedPrice{TokenId: id, Price: value, PriceTime: timestamppb.New(at)}
}

func TestPricesAreImportedRowByRow(t *testing.T) {
	s, _, _ := startPriced(t, "llama,imported")
	service := s.may(t, "prices:import", "wallet:read")
	now := time.Now().UTC().Truncate(time.Second)
	r := &walletv1.ImportPricesRequest{RequestId: uuid.NewString(), Prices: []*walletv1.ImportedPrice{
		imported(aaa, "5.25", now.Add(-time.Minute)),
		imported("AAA", "5", now), imported("eip155:1/slip44:61", "5", now),
		imported(aaa, "0", now), imported(aaa, "-5", now), imported(aaa, "NaN", now), imported(aaa, "1e99", now),
		imported(aaa, "5", now.Add(time.Hour)), imported(aaa, "5", now.AddDate(-20, 0, 0)),
		{TokenId: aaa, Price: "5"}, imported(strings.ToUpper(aaa[:0])+aaa, "7", now.Add(-time.Minute)),
		imported("EUR", "1.1", now.Add(-time.Minute)), imported("USD", "1", now),
	}}
	got, err := s.prices.ImportPrices(service, r)
	if err != nil {
		t.Fatal(err)
	}
	want := "2 token_id INVALID_TOKEN_ID, 3 token_id UNKNOWN_TOKEN, 4 price INVALID_PRICE, 5 price INVALID_PRICE, " +
		"6 price INVALID_PRICE, 7 price INVALID_PRICE, 8 price_time INVALID_TIME, 9 price_time INVALID_TIME, " +
		"10 price_time INVALID_TIME, 11 token_id DUPLICATE_ROW, 13 token_id INVALID_TOKEN_ID"
	if failed := failures(got); failed != want || got.GetImportedCount() != 2 || got.GetUnchangedCount() != 0 {
		t.Errorf("%d imported, %s; want %s", got.GetImportedCount(), failed, want)
	}
	if p := s.price(t, "EUR", aaa)[0]; priceText(p) != "4.772727272727272727272727272727273 EUR imported" ||
		p.GetRate().GetSource() != "imported" {
		t.Errorf("%v", p)
	}
	again, err := s.prices.ImportPrices(service, r)
	if err != nil || failures(again) != want || again.GetImportedCount() != 2 {
		t.Errorf("repeated: %v, %v", again, err)
	}
	r.Prices = r.GetPrices()[:1]
	_, err = s.prices.ImportPrices(service, r)
	servicetest.WantViolation(t, err, "request_id")
	next := func(value string, replace bool) *walletv1.ImportPricesResponse {
		t.Helper()
		got, err := s.prices.ImportPrices(service, &walletv1.ImportPricesRequest{RequestId: uuid.NewString(),
			Prices: []*walletv1.ImportedPrice{imported(aaa, value, now.Add(-time.Minute))}, Replace: replace})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := next("5.250", false); got.GetUnchangedCount() != 1 || got.GetImportedCount() != 0 {
		t.Errorf("the same price: %v", got)
	}
	if got := next("6", false); failures(got) != "1 price PRICE_EXISTS" {
		t.Errorf("another price: %v", got)
	}
	if got := next("6", true); got.GetImportedCount() != 1 || failures(got) != "" {
		t.Errorf("another price to replace it: %v", got)
	}
	testkit.Eventually(t, time.Minute, func() bool { return s.price(t, "", aaa)[0].GetPrice() == "6" })
}

func failures(r *walletv1.ImportPricesResponse) string {
	var out []string
	for _, f := range r.GetFailures() {
		out = append(out, fmt.Sprintf("%d %s %s", f.GetRow(), f.GetField(), f.GetReason()))
	}
	return strings.Join(out, ", ")
}

func TestOnlyWhoMayImportsPrices(t *testing.T) {
	s, _, _ := startPriced(t, "llama,imported")
	r := &walletv1.ImportPricesRequest{RequestId: uuid.NewString(),
		Prices: []*walletv1.ImportedPrice{imported(etherID, "1000000", time.Now())}}
	_, err := s.prices.ImportPrices(t.Context(), r)
	servicetest.WantError(t, err, errs.KindUnauthenticated, "TOKEN_MISSING")
	for _, permissions := range [][]string{nil, {"wallet:read", "wallet:write", "wallet:delete"}, {"wallet:any"},
		{"admin:system"}, {"prices"}} {
		_, err := s.prices.ImportPrices(s.may(t, permissions...), r)
		servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	}
	if p := s.price(t, "", etherID)[0]; p.GetPrice() != "" {
		t.Errorf("the price is %v", p)
	}
	importer := s.may(t, "prices:import")
	many := &walletv1.ImportPricesRequest{RequestId: uuid.NewString()}
	for range 1001 {
		many.Prices = append(many.Prices, r.GetPrices()[0])
	}
	_, err = s.prices.ImportPrices(importer, many)
	servicetest.WantViolation(t, err, "prices")
	_, err = s.prices.ImportPrices(importer, &walletv1.ImportPricesRequest{Prices: r.GetPrices()})
	servicetest.WantViolation(t, err, "request_id")
	without, _, _ := startPriced(t, "llama")
	_, err = without.prices.ImportPrices(without.may(t, "prices:import"), r)
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "IMPORTED_IS_NO_SOURCE")
}

func TestImportedAndFetchedPricesKeepTheirOrder(t *testing.T) {
	for _, tc := range []struct{ sources, want string }{{"imported,llama", "7 USD imported"},
		{"llama,imported", "2000 USD llama"}} {
		t.Run(tc.want, func(t *testing.T) {
			s, f, _ := startPriced(t, tc.sources)
			f.set(func(f *priceFeeds) { f.llama[llamaEther] = "2000" })
			hour := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
			if p := s.pricesOf(t, etherID, "", hour, 2)[0]; priceText(p) != "2000 USD llama" {
				t.Fatalf("before the import: %v", p)
			}
			_, err := s.prices.ImportPrices(s.may(t, "prices:import"), &walletv1.ImportPricesRequest{
				RequestId: uuid.NewString(), Prices: []*walletv1.ImportedPrice{
					imported(etherID, "7", hour.Add(-time.Minute)),
					imported(etherID, "7", time.Now().Add(-time.Minute))}})
			if err != nil {
				t.Fatal(err)
			}
			got := s.pricesOf(t, etherID, "", hour, 2)
			if priceText(got[0]) != tc.want || priceText(got[1]) != tc.want {
				t.Errorf("of the past: %v", got)
			}
			if len(got) == 2 && tc.sources == "imported,llama" {
				testkit.Eventually(t, time.Minute, func() bool {
					return priceText(s.price(t, "", etherID)[0]) == tc.want
				})
			} else if p := s.price(t, "", etherID)[0]; priceText(p) != tc.want {
				t.Errorf("now: %v", p)
			}
			var fetched int
			err = s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM imported_prices WHERE price = 7").
				Scan(&fetched)
			if err != nil || fetched != 2 {
				t.Errorf("%d imported prices, %v", fetched, err)
			}
		})
	}
}
