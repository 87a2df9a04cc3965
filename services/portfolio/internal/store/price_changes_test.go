package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// walletPrices is wallet's feed of changes of prices, and its prices.
type walletPrices struct {
	changes []snapshot.PriceChange
	trimmed int                                             // changes that are not kept any more
	price   func(token string, h time.Time) (p, why string) // of an hour, or why there is none
	asked   int                                             // hours
	failing error
}

func (w *walletPrices) Follow(_ context.Context, cursor string,
	visit func(snapshot.Changes, string) error) error {
	at := len(w.changes)
	if cursor != "" {
		if _, err := fmt.Sscan(cursor, &at); err != nil {
			return err
		}
	}
	if at < w.trimmed {
		return errs.FailedPrecondition("CURSOR_EXPIRED", "not kept any more")
	}
	for ; at < len(w.changes); at++ {
		if err := visit(snapshot.Changes{Prices: w.changes[at : at+1]}, fmt.Sprint(at+1)); err != nil {
			return err
		}
	}
	return visit(snapshot.Changes{}, fmt.Sprint(at))
}

func (w *walletPrices) Hours(_ context.Context, token string, from, until time.Time,
	visit func([]snapshot.HourPrice) error) error {
	var prices []snapshot.HourPrice
	for h := from; h.Before(until); h = h.Add(time.Hour) {
		amount, why := w.price(token, h)
		prices = append(prices, snapshot.HourPrice{Hour: h, Price: valuation.Price{Amount: amount,
			UnpricedReason: why}})
	}
	w.asked += len(prices)
	return errors.Join(w.failing, visit(prices))
}

// mend has the prices of hours changed.
func (w *walletPrices) mend(token string, from, until int) {
	w.changes = append(w.changes, snapshot.PriceChange{TokenID: token, From: hour(from), Until: hour(until)})
}

// adopt does what the job does, at a time.
func (f fixture) adopt(t testing.TB, w *walletPrices, at time.Time) {
	t.Helper()
	follower := snapshot.NewPriceFollower(f.Snapshots, w, slog.New(slog.NewTextHandler(io.Discard, nil)),
		func() time.Time { return at })
	if err := errors.Join(follower.Follow(t.Context()), follower.Reprice(t.Context(), 0, 1)); err != nil {
		t.Fatal(err)
	}
}

// stored is all that is stored of the snapshots of f.p and of their positions, a line each.
func (f fixture) stored(t testing.TB) (lines []string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(), `
		SELECT concat_ws(' ', extract(epoch FROM bucket - timestamptz '2026-03-01Z') / 3600, trim_scale(total),
			complete, position_count, incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
			measurable, price_gap,
			coalesce(trim_scale(net_flow)::text, '-'),
			(SELECT string_agg(concat_ws('/', token_id, amount, price, value, unpriced_reason, kind), ' '
			                   ORDER BY token_id, kind)
			 FROM snapshot_positions p WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket))
		FROM snapshots s WHERE portfolio_id = $1 ORDER BY bucket`, f.p.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// heldAt returns what is held in an hour: always a and, but for hours 10 to 19, b, whose price is away in hours 30 to
// 33. Some of a is supplied, and some b is owed. The amounts change every seven hours. price is that of b.
func heldAt(t testing.TB, n int, price string) valuation.Valuation {
	t.Helper()
	reason := ""
	if n >= 30 && n < 34 && price == "3" {
		price, reason = "", valuation.ReasonNoPrice
	}
	held := []valuation.Holding{holding("a", int64(10+n/7), "2", ""),
		in(valuation.Supplied, holding("a", int64(n/7), "2", ""))}
	if n < 10 || n >= 20 {
		held = append(held, holding("b", int64(5+n/7), price, reason),
			in(valuation.Borrowed, holding("b", 1, price, reason)))
	}
	return valued(t, hour(n), held...)
}

func (f fixture) saveHeld(t testing.TB, price func(n int) string) {
	t.Helper()
	var hours []valuation.Valuation
	for n := range 48 {
		hours = append(hours, heldAt(t, n, price(n)))
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, hours); err != nil {
		t.Fatal(err)
	}
}

// After prices were mended the snapshots are, to the last column, those that would have been stored with the mended
// prices from the beginning: also around a gap that was filled. Hours without the token, and other portfolios, stay.
func TestMendedPricesMakeTheSnapshotsThatTheyWouldHaveMade(t *testing.T) {
	mendedAt := func(n int) bool { return n >= 5 && n < 15 || n >= 28 && n < 35 }
	f, want := newFixture(t, noRedis), newFixture(t, noRedis)
	f.saveHeld(t, func(int) string { return "3" })
	want.saveHeld(t, func(n int) string {
		if mendedAt(n) {
			return "4"
		}
		return "3"
	})
	other := f
	p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
	if err != nil {
		t.Fatal(err)
	}
	other.p = p
	for n := range 48 {
		if _, err := other.SaveBackfilled(t.Context(), p,
			[]valuation.Valuation{valued(t, hour(n), holding("a", 1, "2", ""))}); err != nil {
			t.Fatal(err)
		}
	}
	before, others := f.stored(t), other.stored(t)
	w := &walletPrices{price: func(token string, h time.Time) (string, string) {
		if token == "b" && mendedAt(int(h.Sub(hour(0))/time.Hour)) {
			return "4", ""
		}
		return "3", ""
	}}
	f.adopt(t, w, hour(100)) // from now on
	w.mend("b", 5, 15)
	w.mend("b", 28, 35)
	w.mend("unknown", 0, 48)
	if got := f.stored(t); !slices.Equal(got, before) {
		t.Error("the control: without following the snapshots changed")
	}
	f.adopt(t, w, hour(100))
	got := f.stored(t)
	if expected := want.stored(t); !slices.Equal(got, expected) {
		t.Errorf("the snapshots are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
	}
	for n := range got {
		if n > 10 && n < 20 && got[n] != before[n] { // at hour 10 the token leaves, at its mended price
			t.Errorf("hour %d, without the token, was %s and is %s", n, before[n], got[n])
		}
	}
	if got := other.stored(t); !slices.Equal(got, others) {
		t.Error("the snapshots of a portfolio without the token changed")
	}
	if w.asked != 5+7 { // the hours in which anybody holds it
		t.Errorf("%d hours were asked for", w.asked)
	}
	if n := f.count(t, "SELECT count(*) FROM price_changes") +
		f.count(t, "SELECT count(*) FROM portfolios WHERE reprice_from IS NOT NULL"); n != 0 {
		t.Errorf("%d rows say that there is more to do", n)
	}
	// What is adopted is not adopted again.
	seqs := f.count(t, "SELECT sum(price_seq) FROM snapshots")
	w.mend("b", 5, 15)
	f.adopt(t, w, hour(100))
	if n := f.count(t, "SELECT sum(price_seq) FROM snapshots"); n != seqs {
		t.Error("snapshots were valued anew at prices that they have")
	}
}

// A price that wallet can't tell, or a failure, leaves the change to a later run. One that was noted again meanwhile
// stays, too; and a cursor that is too old begins anew.
func TestAChangeThatIsNotAdoptedStays(t *testing.T) {
	f := newFixture(t, noRedis)
	f.saveHeld(t, func(int) string { return "3" })
	w := &walletPrices{price: func(string, time.Time) (string, string) {
		return "", valuation.ReasonSourceUnavailable
	}}
	f.adopt(t, w, hour(100))
	w.mend("b", 0, 48)
	pending := func(want int64) {
		t.Helper()
		if n := f.count(t, "SELECT count(*) FROM price_changes"); int64(n) != want {
			t.Errorf("%d changes are pending, want %d", n, want)
		}
	}
	f.adopt(t, w, hour(100))
	pending(1)
	w.failing = errs.Unavailable("WALLET_UNAVAILABLE", "away")
	f.adopt(t, w, hour(101))
	pending(1)
	before := f.stored(t)
	w.failing, w.price = nil, func(string, time.Time) (string, string) { return "5", "" }
	f.adopt(t, w, hour(101).Add(time.Minute)) // not due yet
	pending(1)
	f.adopt(t, w, hour(102))
	pending(0)
	if slices.Equal(f.stored(t), before) {
		t.Error("nothing was adopted")
	}

	w.mend("b", 0, 48)
	w.mend("b", 0, 48)
	w.trimmed = len(w.changes) - 1
	f.adopt(t, w, hour(103)) // the cursor is too old
	f.adopt(t, w, hour(104)) // from now on
	pending(0)
	w.mend("b", 3, 4)
	if err := f.NotePriceChanges(t.Context(), w.changes, "9", hour(104)); err != nil {
		t.Fatal(err)
	}
	due, err := f.DuePriceChanges(t.Context(), hour(105), 10)
	if err != nil || len(due) != 2 { // those of the same hours are one
		t.Fatal(due, err)
	}
	if err := f.NotePriceChanges(t.Context(), due[:1], "9", hour(104)); err != nil {
		t.Fatal(err)
	}
	for _, c := range due {
		if err := f.PriceChangeDone(t.Context(), c, c.Until, hour(104)); err != nil {
			t.Fatal(err)
		}
	}
	pending(1)
}

// An import of a hundred thousand prices, of twelve tokens by the hour, leaves a row for each token, and is adopted in
// a bounded time.
func TestAFloodOfMendedPricesIsBounded(t *testing.T) {
	hours, holders := testkit.Size(24*30, 8333), testkit.Size(3, 20)
	f := newFixture(t, noRedis)
	w := &walletPrices{price: func(string, time.Time) (string, string) { return "7", "" }}
	f.adopt(t, w, hour(hours+1))
	owners := []portfolio.Portfolio{f.p}
	for range holders - 1 {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		owners = append(owners, p)
	}
	var held []valuation.Holding
	for token := range 12 {
		held = append(held, holding(fmt.Sprint("t", token), 1, "3", ""))
	}
	for _, p := range owners {
		var batch []valuation.Valuation
		for n := range hours {
			batch = append(batch, valued(t, hour(n), held...))
			if len(batch) == 500 || n == hours-1 {
				if _, err := f.SaveBackfilled(t.Context(), p, batch); err != nil {
					t.Fatal(err)
				}
				batch = nil
			}
		}
	}
	begun := time.Now()
	for token := range 12 {
		w.mend(fmt.Sprint("t", token), 0, hours)
	}
	follower := snapshot.NewPriceFollower(f.Snapshots, w, slog.New(slog.DiscardHandler),
		func() time.Time { return hour(hours + 1) })
	if err := follower.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	followed, limit := time.Since(begun), time.Duration(testkit.Size(1, 10))*time.Minute
	old := func() int { return f.count(t, "SELECT count(*) FROM snapshots WHERE total <> 84") }
	for again := true; again; again = old() > 0 && time.Since(begun) < limit { // a run has a bound of time
		if err := follower.Reprice(t.Context(), 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begun)
	testkit.Figure(t, "%d prices of 12 tokens, %d snapshots of %d portfolios: compared in %s, valued in %s (limit %s)",
		12*hours, hours*holders, holders, followed.Round(time.Millisecond), (took - followed).Round(time.Millisecond),
		limit)
	if took > limit {
		t.Errorf("it took %s", took)
	}
	if n := f.count(t, "SELECT count(*) FROM hour_prices"); n != 2*12*hours {
		t.Errorf("%d prices are stored, want the old and the new ones, %d", n, 2*12*hours)
	}
	if n := old(); n != 0 {
		t.Errorf("%d snapshots have old prices", n)
	}
}
