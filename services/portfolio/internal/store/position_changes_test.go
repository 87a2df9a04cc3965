package store_test

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// positionsOf returns the positions of each snapshot of f.p as the view puts them together,
// with the sum of their values.
func (f fixture) positionsOf(ctx context.Context, t rapid.TB) (byHour map[int64]string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(ctx, `
		SELECT s.bucket, s.total = coalesce(sum(value) FILTER (WHERE verified), 0),
		       coalesce(string_agg(format('%s %s %s %s', token_id, kind, amount, trim_scale(price)), ', '
		                ORDER BY token_id, kind) FILTER (WHERE token_id IS NOT NULL), '')
		FROM snapshots s LEFT JOIN snapshot_positions p USING (portfolio_id, bucket)
		WHERE portfolio_id = $1 GROUP BY s.bucket, s.total`, f.p.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	byHour = map[int64]string{}
	for rows.Next() {
		var bucket time.Time
		var exact bool
		var positions string
		if err := rows.Scan(&bucket, &exact, &positions); err != nil {
			t.Fatal(err)
		}
		if !exact {
			t.Errorf("the total of %s is not the sum of its positions %s", bucket, positions)
		}
		byHour[bucket.Unix()] = positions
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return byHour
}

// asText is a valuation in the form of positionsOf.
func asText(v valuation.Valuation) string {
	positions := slices.Clone(v.Positions)
	slices.SortFunc(positions, func(a, b valuation.Position) int {
		return cmp.Or(strings.Compare(a.TokenID, b.TokenID), cmp.Compare(a.Place.Kind, b.Place.Kind))
	})
	var parts []string
	for _, p := range positions {
		parts = append(parts, fmt.Sprintf("%s %s %s %s", p.TokenID, p.Place.Kind, p.Amount, p.Price.Amount))
	}
	return strings.Join(parts, ", ")
}

// rank says which of two valuations of an hour is stored: the first of the highest rank.
func rank(v valuation.Valuation) int {
	if v.Complete() {
		return 1000
	}
	return -v.Unpriced
}

// Hours are stored in any order, again, and in place of worse ones; every snapshot has its own
// positions afterwards, and no row is there that changes nothing.
func TestPositionsByChangeAreThoseThatWereStored(t *testing.T) {
	shared := newFixture(t, noRedis)
	portfolios := shared.portfolios(t)
	rapid.Check(t, func(r *rapid.T) {
		f := shared
		p, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			r.Fatal(err)
		}
		f.p = p
		model := map[int64]valuation.Valuation{}
		for range rapid.IntRange(1, 8).Draw(r, "calls") {
			var batch []valuation.Valuation
			hours := rapid.SliceOfNDistinct(rapid.IntRange(0, 12), 1, 5, rapid.ID[int]).Draw(r, "hours")
			slices.Sort(hours)
			for _, n := range hours {
				batch = append(batch, drawn(r, n))
			}
			if _, err := f.SaveBackfilled(t.Context(), f.p, batch); err != nil {
				r.Fatal(err)
			}
			for _, v := range batch {
				at := v.ValuationTime.Unix()
				if before, ok := model[at]; !ok || rank(v) > rank(before) {
					model[at] = v
				}
			}
		}
		got := f.positionsOf(t.Context(), r)
		if len(got) != len(model) {
			r.Fatalf("%d snapshots, want %d", len(got), len(model))
		}
		for at, v := range model {
			if got[at] != asText(v) {
				r.Errorf("at %s: %q, want %q", time.Unix(at, 0).UTC(), got[at], asText(v))
			}
		}
		idle := 0
		err = f.db.SQL().QueryRowContext(t.Context(), `
			SELECT count(*) FROM (
			  SELECT amount, lag(amount) OVER w AS before, row_number() OVER w AS n FROM position_changes
			  WHERE portfolio_id = $1 WINDOW w AS (PARTITION BY asset, place ORDER BY bucket)) AS c
			WHERE n > 1 AND amount IS NOT DISTINCT FROM before OR n = 1 AND amount IS NULL`, f.p.ID).Scan(&idle)
		if err != nil || idle > 0 {
			r.Errorf("%d rows change nothing, %v", idle, err)
		}
	})
}

// drawn returns a valuation of an hour: of each token some amount, or nothing, at a price of
// that draw, or at none; some of it in protocols.
func drawn(r *rapid.T, n int) valuation.Valuation {
	var held []valuation.Holding
	for _, id := range []string{"a", "b", "c"} {
		units := rapid.Int64Range(-1, 2).Draw(r, id)
		if units < 0 {
			continue
		}
		price := rapid.SampledFrom([]string{"", "1", "2.5"}).Draw(r, "price of "+id)
		held = append(held, valuation.Holding{TokenID: id, Symbol: "S", Decimals: 1,
			Verified: rapid.IntRange(0, 9).Draw(r, "verified "+id) > 0, Amount: big.NewInt(units),
			Price: valuation.Price{Amount: price, Source: "test", Time: hour(n)}})
		for _, kind := range []valuation.PositionKind{valuation.Supplied, valuation.Borrowed} {
			if rapid.IntRange(0, 3).Draw(r, id+" in a protocol") == 0 {
				h := in(kind, held[len(held)-1])
				h.Amount = big.NewInt(rapid.Int64Range(0, 2).Draw(r, "amount there"))
				held = append(held, h)
			}
		}
	}
	v, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, held, hour(n))
	if err != nil {
		r.Fatal(err)
	}
	return v
}

// priced returns a valuation of one holding at the prices that the store has of the hour.
func (f fixture) priced(t *testing.T, n int, h valuation.Holding) valuation.Valuation {
	t.Helper()
	assets, err := valuation.Add([]valuation.Wallet{{Synced: true}}, []valuation.Holding{h}, hour(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AdoptPrices(t.Context(), []valuation.Assets{assets}); err != nil {
		t.Fatal(err)
	}
	v, err := assets.Value()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAnHourHasOnePriceUntilABetterOneComes(t *testing.T) {
	f := newFixture(t, noRedis)
	offer := func(price, reason string, stale bool) valuation.Holding {
		h := holding("a", 2, price, reason)
		h.Price.Stale, h.Price.Source = stale, "test"
		return h
	}
	for i, step := range []struct {
		why   string
		offer valuation.Holding
		total string
	}{
		{"nobody could be asked", offer("", valuation.ReasonSourceUnavailable, false), "0"},
		{"there is none", offer("", valuation.ReasonNoPrice, false), "0"},
		{"nobody could be asked again", offer("", valuation.ReasonSourceUnavailable, false), "0"},
		{"a stale one", offer("3", "", true), "6.00000000"},
		{"another stale one is not taken", offer("4", "", true), "6.00000000"},
		{"a fresh one", offer("5", "", false), "10.00000000"},
		{"another fresh one is not taken", offer("6", "", false), "10.00000000"},
		{"nor none", offer("", valuation.ReasonSourceUnavailable, false), "10.00000000"},
	} {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		snap, _, err := f.Save(t.Context(), p, hour(0), f.priced(t, 0, step.offer))
		if err != nil || snap.Total.Text('f') != step.total {
			t.Errorf("%s: %s, %v, want %s", step.why, snap.Total, err, step.total)
		}
		// What was stored before keeps its own price.
		if n := f.count(t, `SELECT count(*) FROM snapshots s JOIN snapshot_positions p USING (portfolio_id, bucket)
			WHERE s.total = coalesce(p.value, 0)`); n != i+1 {
			t.Errorf("%s: %d of %d snapshots are their positions' sum", step.why, n, i+1)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM hour_prices"); n != 4 {
		t.Errorf("%d prices are stored, want 4", n)
	}
}

// A price that was mended is that of the hour from then on. Snapshots that are not taken again keep theirs.
func TestAMendedPriceIsThatOfASnapshotThatIsTakenAgain(t *testing.T) {
	f := newFixture(t, noRedis)
	var portfolios []portfolio.Portfolio
	for range 2 {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		portfolios = append(portfolios, p)
	}
	offer := func(price string, stale bool) []valuation.Assets {
		h := holding("a", 2, price, "")
		h.Price.Stale, h.Price.Source = stale, "test"
		assets, err := valuation.Add([]valuation.Wallet{{Synced: true}}, []valuation.Holding{h}, hour(0))
		if err != nil {
			t.Fatal(err)
		}
		return []valuation.Assets{assets}
	}
	for i, step := range []struct {
		why   string
		set   func(context.Context, []valuation.Assets) error
		offer []valuation.Assets
		total string
	}{
		{"the first", f.AdoptPrices, offer("5", false), "10.00000000"},
		{"another one of an hour that has one", f.AdoptPrices, offer("6", false), "10.00000000"},
		{"the same one in other digits", f.MendPrices, offer("5.00", false), "10.00000000"},
		{"a stale one", f.MendPrices, offer("7", true), "10.00000000"},
		{"none", f.MendPrices, offer("", false), "10.00000000"},
		{"a mended one", f.MendPrices, offer("8", false), "16.00000000"},
		{"the one before it, from somebody who read it earlier", f.AdoptPrices, offer("5", false), "16.00000000"},
	} {
		if err := step.set(t.Context(), step.offer); err != nil {
			t.Fatalf("%s: %v", step.why, err)
		}
		v, err := step.offer[0].Value()
		if err != nil {
			t.Fatal(err)
		}
		p := portfolios[min(i, 1)]
		stored, err := f.ReplaceHours(t.Context(), p, []valuation.Valuation{v})
		if err != nil || len(stored) != 1 || stored[0].Total.Text('f') != step.total {
			t.Errorf("%s: %v, %v, want %s", step.why, stored, err, step.total)
		}
	}
	if n := f.count(t, "SELECT count(*) FROM hour_prices"); n != 2 {
		t.Errorf("%d prices are stored, want 2", n)
	}
	if n := f.count(t, `SELECT count(*) FROM snapshots s JOIN snapshot_positions p USING (portfolio_id, bucket)
		WHERE s.total = p.value AND s.total IN (10, 16)`); n != 2 {
		t.Errorf("%d of 2 snapshots are the sum of their positions", n)
	}
}

// Of writers at once, each brings its own price; all that are stored stay what they were valued at.
func TestSixteenWritersOfAnHourKeepTheirOwnPrices(t *testing.T) {
	f := newFixture(t, noRedis)
	const writers = 16
	err := race(writers, func(i int) error {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			return err
		}
		for n := range 4 {
			v := valued(t, hour(n), holding("a", 1, fmt.Sprint(i+1), ""), holding("b", 1, fmt.Sprint(2*i+1), ""))
			if _, _, err := f.Save(t.Context(), p, hour(n), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, `SELECT count(*) FROM snapshots s WHERE total = (
		SELECT sum(value) FROM snapshot_positions p WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket)`,
	); n != 4*writers {
		t.Errorf("%d of %d snapshots are the sum of their positions", n, 4*writers)
	}
	// The control: at the last prices of their hours most of them are not.
	if n := f.count(t, `SELECT count(*) FROM snapshots s WHERE total = (
		SELECT sum(last.price) FROM (SELECT DISTINCT ON (asset) price FROM hour_prices h WHERE h.bucket = s.bucket
		                             ORDER BY asset, seq DESC) AS last)`); n > 8 {
		t.Errorf("%d snapshots have the last prices: the test proves nothing", n)
	}
}

// Writers at once that bring different prices agree on one.
func TestSixteenWritersAgreeOnThePriceOfAnHour(t *testing.T) {
	f := newFixture(t, noRedis)
	const writers = 16
	totals := make([]string, writers)
	err := race(writers, func(i int) error {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			return err
		}
		assets, err := valuation.Add([]valuation.Wallet{{Synced: true}},
			[]valuation.Holding{holding("a", 1, fmt.Sprint(i+1), "")}, hour(0))
		if err != nil {
			return err
		}
		if err := f.AdoptPrices(t.Context(), []valuation.Assets{assets}); err != nil {
			return err
		}
		v, err := assets.Value()
		if err != nil {
			return err
		}
		snap, _, err := f.Save(t.Context(), p, hour(0), v)
		if err == nil {
			totals[i] = snap.Total.Text('f')
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(totals)
	if totals[0] != totals[writers-1] {
		t.Errorf("one unit is worth %v", slices.Compact(totals))
	}
	if n := f.count(t, "SELECT count(*) FROM hour_prices"); n != 1 {
		t.Errorf("%d prices are stored", n)
	}
}
