package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

func TestInSQLAValueIsConvertedAsInGo(t *testing.T) {
	f := newFixture(t, noRedis)
	random := rand.New(rand.NewPCG(3, 4))
	var values, rates, want []string
	for range 3000 {
		value := fmt.Sprintf("%d.%08d", random.Int64N(1_000_000)-500_000, random.IntN(100_000_000))
		rate := fmt.Sprintf("%d.%0*d", random.IntN(3), 1+random.IntN(20), 1+random.IntN(9))
		if random.IntN(3) == 0 {
			rate = fmt.Sprint(1 << random.IntN(6)) // ties
		}
		d, _, err := apd.NewFromString(value)
		if err != nil {
			t.Fatal(err)
		}
		converted, err := currency.Rate{Currency: "EUR", Price: rate}.Convert(d)
		if err != nil {
			t.Fatal(err)
		}
		values, rates, want = append(values, value), append(rates, rate), append(want, converted.Text('f'))
	}
	var wrong string
	var count int
	err := f.db.SQL().QueryRowContext(t.Context(), `SELECT count(*), coalesce(min(v || ' at ' || r || ' is ' ||
		in_currency(v::numeric, r::numeric) || ', want ' || w), '')
		FROM unnest($1::text[], $2::text[], $3::text[]) AS given (v, r, w)
		WHERE in_currency(v::numeric, r::numeric) IS DISTINCT FROM w::numeric`,
		values, rates, want).Scan(&count, &wrong)
	if err != nil || count > 0 {
		t.Errorf("%d values differ: %s, %v", count, wrong, err)
	}
}

func TestRatesAreStoredOnce(t *testing.T) {
	f := newFixture(t, noRedis)
	now := hour(10)
	s := store.NewCurrencyRates(f.db.DB, func() time.Time { return now })
	rate := func(h int, price, reason string) currency.HourRate {
		return currency.HourRate{Hour: hour(h), Rate: currency.Rate{Currency: "EUR", Price: price, Source: "llama",
			Time: hour(h).Add(-time.Minute), Reason: reason}}
	}
	missing := func(since time.Time) string {
		first, last, err := s.MissingRates(t.Context(), "EUR", hour(0), hour(6), since)
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			return "none"
		}
		return fmt.Sprint(first.Sub(hour(0)).Hours(), "-", last.Sub(hour(0)).Hours())
	}
	if got := missing(now); got != "0-5" {
		t.Errorf("missing are %s", got)
	}
	for _, rates := range [][]currency.HourRate{
		{rate(0, "1.08", ""), rate(1, "1.081", ""), rate(2, "", "NO_PRICE")},
		{rate(0, "9", ""), rate(3, "1.083", ""), rate(4, "1.084", ""), rate(5, "1.085", "")}, // the first stays
		nil,
	} {
		if err := s.SaveRates(t.Context(), rates); err != nil {
			t.Fatal(err)
		}
	}
	if got := missing(now.Add(-time.Hour)); got != "none" {
		t.Errorf("missing are %s, though the hour without a rate was asked for just now", got)
	}
	if got := missing(now.Add(time.Second)); got != "2-2" {
		t.Errorf("missing are %s, want the hour without a rate", got)
	}
	rates, err := s.Rates(t.Context(), "EUR", []time.Time{hour(0), hour(2), hour(9)})
	if err != nil || len(rates) != 3 || rates[0].Price != "1.08" || rates[1].Reason != "NO_PRICE" ||
		rates[2] != (currency.Rate{Currency: "EUR"}) {
		t.Errorf("read %+v, %v", rates, err)
	}
	if err := s.SaveRates(t.Context(), []currency.HourRate{rate(2, "1.082", "")}); err != nil {
		t.Fatal(err)
	}
	if rates, err = s.Rates(t.Context(), "EUR", []time.Time{hour(2)}); err != nil || rates[0].Price != "1.082" {
		t.Errorf("a rate that came later is not stored: %+v, %v", rates, err)
	}
}
