package store_test

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*store.Snapshots
	db  *testkit.DB
	url string // of Redis
	p   portfolio.Portfolio
}

func newFixture(t testing.TB, redisURL string) fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	f := fixture{db: db, url: redisURL}
	f.Snapshots = store.NewSnapshots(db.DB, f.caches(t))
	p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
	if err != nil {
		t.Fatal(err)
	}
	f.p = p
	return f
}

// noRedis is the URL of a Redis that refuses every connection.
const noRedis = "redis://127.0.0.1:1/0"

// caches returns the caches of another replica.
func (f fixture) caches(t testing.TB) *store.Caches {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: f.url, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := store.NewCaches(client, store.CacheOptions{Portfolio: time.Hour, Timeline: time.Hour,
		Budget: 5 * time.Second})
	t.Cleanup(c.Close)
	return c
}

// portfolios returns the portfolios of another replica.
func (f fixture) portfolios(t testing.TB) *store.Portfolios {
	t.Helper()
	return store.NewPortfolios(f.db.DB, f.caches(t))
}

func newDefault(owner uuid.UUID) portfolio.Portfolio {
	return portfolio.Portfolio{ID: uuid.Must(uuid.NewV7()), Owner: owner, Name: "All wallets", Default: true,
		CreatedAt: hour(0)}
}

func hour(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }

// race runs n calls at once and returns their errors.
func race(n int, call func(i int) error) error {
	failures := make([]error, n)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-begin
			failures[i] = call(i)
		})
	}
	close(begin)
	all.Wait()
	return errors.Join(failures...)
}

func TestSixteenFirstCallsMakeOneDefaultPortfolio(t *testing.T) {
	for name, url := range map[string]string{"with a cache": testkit.Redis(t).URL(), "without": noRedis} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, url)
			owner, ids := uuid.New(), make([]uuid.UUID, 16)
			replicas := []*store.Portfolios{f.portfolios(t), f.portfolios(t), f.portfolios(t), f.portfolios(t)}
			err := race(16, func(i int) error {
				p, err := replicas[i%4].FindOrCreateDefault(t.Context(), newDefault(owner))
				ids[i] = p.ID
				return err
			})
			if err != nil || slices.ContainsFunc(ids, func(id uuid.UUID) bool { return id != ids[0] }) {
				t.Errorf("answered %v, %v", ids, err)
			}
			if n := f.count(t, "SELECT count(*) FROM portfolios WHERE owner_id = $1", owner); n != 1 {
				t.Errorf("%d rows", n)
			}
			again, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(owner))
			if err != nil || again.ID != ids[0] || !again.Default || again.Owner != owner ||
				!again.CreatedAt.Equal(hour(0)) {
				t.Errorf("later: %+v, %v", again, err)
			}
		})
	}
}

func (f fixture) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := f.db.SQL().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const maxUint256 = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

// value returns a valuation of a token at this price, and if it is incomplete of
// another token without a price.
func value(t *testing.T, price string, complete bool) valuation.Valuation {
	t.Helper()
	amount, _ := new(big.Int).SetString(maxUint256, 10)
	h := valuation.Holding{
		TokenID: "a", Symbol: "A", Decimals: 76, Verified: true, Amount: amount,
		Price: valuation.Price{Amount: price, Source: "test", Time: hour(-1), Stale: false},
	}
	spam := valuation.Holding{TokenID: "spam", Symbol: "SPAM", Decimals: 255, Amount: big.NewInt(5),
		Price: valuation.Price{Amount: "1"}}
	holdings := []valuation.Holding{spam, h, h} // 2×(2^256-1)
	if !complete {
		holdings = append(holdings, valuation.Holding{TokenID: "b", Symbol: "B", Verified: true, Amount: big.NewInt(1),
			Price: valuation.Price{UnpricedReason: "NO_PRICE"}})
	}
	v, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, holdings, hour(0).Add(90*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f fixture) save(t *testing.T, bucket time.Time, v valuation.Valuation) bool {
	t.Helper()
	_, stored, err := f.Save(t.Context(), f.p, bucket, v)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestACompleteSnapshotReplacesAnIncompleteOneAndNeverTheOtherWayRound(t *testing.T) {
	f := newFixture(t, noRedis)
	for _, step := range []struct {
		name      string
		v         valuation.Valuation
		stored    bool
		total     string
		positions int
	}{
		{"the first is stored", value(t, "1", false), true, "23.15841785", 3},
		{"a complete one replaces it", value(t, "2", true), true, "46.31683569", 2},
		{"an incomplete one doesn't", value(t, "3", false), false, "46.31683569", 2},
		{"another complete one doesn't", value(t, "4", true), false, "46.31683569", 2},
	} {
		t.Run(step.name, func(t *testing.T) {
			snap, stored, err := f.Save(t.Context(), f.p, hour(0), step.v)
			if err != nil || stored != step.stored || snap.Total.Text('f') != step.total ||
				snap.Positions != step.positions || !snap.Bucket.Equal(hour(0)) || snap.Portfolio != f.p.ID {
				t.Errorf("%+v, total %s, stored %v, %v", snap, snap.Total, stored, err)
			}
			if n := f.count(t, "SELECT count(*) FROM snapshots"); n != 1 {
				t.Errorf("%d snapshots", n)
			}
			if n := f.count(t, "SELECT count(*) FROM snapshot_positions"); n != step.positions {
				t.Errorf("%d positions", n)
			}
		})
	}
}

func TestSixteenSavesAtOnceLeaveOneSnapshotWithItsOwnPositions(t *testing.T) {
	for round := range 5 {
		f := newFixture(t, noRedis)
		values := make([]valuation.Valuation, 16)
		for i := range values {
			values[i] = value(t, fmt.Sprint(i+1), i%2 == round%2)
		}
		if err := race(16, func(i int) error {
			_, _, err := f.Save(t.Context(), f.p, hour(0), values[i])
			return err
		}); err != nil {
			t.Fatal(err)
		}
		last, err := f.LastSnapshot(t.Context(), f.p.ID, hour(1000))
		if err != nil || !last.Complete() || len(last.Positions) != 2 {
			t.Fatalf("%+v, %v", last, err)
		}
		if !f.consistent(t) {
			t.Error("the positions are of another snapshot")
		}
	}
}

// consistent reports whether there is one snapshot whose total is the sum of its
// positions.
func (f fixture) consistent(t *testing.T) bool {
	t.Helper()
	return f.count(t, `SELECT count(*) FROM snapshots s WHERE total = (SELECT sum(value) FROM snapshot_positions p
		WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket AND verified)`) == 1
}

// The control: two writers that don't write the row and the positions in one
// transaction.
func TestWithoutATransactionPositionsOfAnotherSnapshotStay(t *testing.T) {
	f := newFixture(t, noRedis)
	row := func(v valuation.Valuation) {
		_, err := f.db.SQL().ExecContext(t.Context(),
			`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
			                        incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable)
			VALUES ($1, $2, $2, 1, $3::numeric, true, 1, 0, 0, 0, false, true)
			ON CONFLICT (portfolio_id, bucket) DO UPDATE SET total = excluded.total`,
			f.p.ID, hour(0), v.Total.Text('f'))
		if err != nil {
			t.Fatal(err)
		}
	}
	positions := func(v valuation.Valuation) {
		_, err := f.db.SQL().ExecContext(t.Context(),
			`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
			SELECT $1, id, $2, $3::numeric FROM assets
			ON CONFLICT (portfolio_id, asset, place, bucket) DO UPDATE SET amount = excluded.amount`,
			f.p.ID, hour(0), v.Total.Text('f'))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.db.Gorm(t.Context()).Exec(`WITH a AS (
		INSERT INTO assets (token_id, symbol, decimals, verified) VALUES ('a', 'A', 0, true) RETURNING id)
		INSERT INTO hour_prices SELECT ?, id, 1, ?, false, 1, '', '' FROM a`, hour(0), hour(0)).Error; err != nil {
		t.Fatal(err)
	}
	one, other := value(t, "1", true), value(t, "2", true)
	row(one)
	positions(one)
	if !f.consistent(t) {
		t.Fatal("a single snapshot is inconsistent")
	}
	row(one)
	row(other)
	positions(other)
	positions(one)
	if f.consistent(t) {
		t.Error("two interleaved writers are consistent: the check proves nothing")
	}
}

func TestASnapshotOfTheHourIsNotTheLastOneBeforeItsTime(t *testing.T) {
	f := newFixture(t, noRedis)
	early, late := value(t, "7", true), value(t, "9", true)
	early.ValuationTime, late.ValuationTime = hour(0), hour(1).Add(40*time.Minute)
	f.save(t, hour(0), early)
	f.save(t, hour(1), late)
	for at, want := range map[time.Time]valuation.Valuation{hour(0): early, hour(1).Add(39 * time.Minute): early,
		hour(1).Add(40 * time.Minute): late} {
		got, err := f.LastSnapshot(t.Context(), f.p.ID, at)
		if err != nil || got.Total.Cmp(want.Total) != 0 || !got.ValuationTime.Equal(want.ValuationTime) {
			t.Errorf("at %s: %v, %v, want %s", at, got.Total, err, want.Total)
		}
	}
	if got, err := f.LastSnapshot(t.Context(), f.p.ID, hour(0).Add(-1)); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("before the first: %v, %v", got, err)
	}
}

func TestTheLastSnapshotComesBackUnchanged(t *testing.T) {
	f := newFixture(t, noRedis)
	if _, err := f.LastSnapshot(t.Context(), f.p.ID, hour(1000)); !errs.Is(err, errs.KindNotFound) {
		t.Fatalf("before the first: %v", err)
	}
	f.save(t, hour(-1), value(t, "7", true))
	want := value(t, "1.50", false)
	f.save(t, hour(0), want)
	got, err := f.LastSnapshot(t.Context(), f.p.ID, hour(1000))
	if err != nil {
		t.Fatal(err)
	}
	if !got.ValuationTime.Equal(want.ValuationTime) || got.Total.Cmp(want.Total) != 0 ||
		got.Unpriced != want.Unpriced || got.Unverified != want.Unverified ||
		!slices.Equal(got.IncompleteReasons, want.IncompleteReasons) ||
		len(got.Positions) != len(want.Positions) {
		t.Fatalf("%+v came back as %+v", want, got)
	}
	for i, w := range want.Positions {
		g := got.Positions[i]
		if g.Amount.Cmp(w.Amount) != 0 || (g.Value == nil) != (w.Value == nil) ||
			g.Value != nil && g.Value.Text('f') != w.Value.Text('f') || !g.Price.Time.Equal(w.Price.Time) {
			t.Errorf("position %+v came back as %+v", w, g)
		}
		g.Amount, g.Value, g.Price.Time = w.Amount, w.Value, w.Price.Time
		if g != w {
			t.Errorf("position %+v came back as %+v", w, g)
		}
	}
	if got.Positions[0].Amount.BitLen() != 257 {
		t.Errorf("an amount of %d bits", got.Positions[0].Amount.BitLen())
	}
}

func TestPagesOfSnapshotsAreNewestFirst(t *testing.T) {
	f := newFixture(t, noRedis)
	for _, n := range []int{3, 0, 4, 1, 2} {
		f.save(t, hour(n), value(t, "1", true))
	}
	var got []time.Time
	for before := (time.Time{}); ; {
		page, err := f.List(t.Context(), f.p.ID, before, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, s := range page {
			got = append(got, s.Bucket)
		}
		before = page[len(page)-1].Bucket
	}
	if want := []time.Time{hour(4), hour(3), hour(2), hour(1), hour(0)}; !slices.Equal(got, want) {
		t.Errorf("listed %v", got)
	}
	if others, err := f.List(t.Context(), uuid.New(), time.Time{}, 10); err != nil || len(others) != 0 {
		t.Error(others, err)
	}
}

func TestBucketsKnowOpenCloseMinAndMax(t *testing.T) {
	f := newFixture(t, noRedis)
	// 2^256-1 at 76 decimals, twice, is 23.15841785.
	for n, price := range map[int]string{0: "2", 1: "9", 2: "1", 3: "3", 24: "5", 47: "4", 72: "10"} {
		f.save(t, hour(n), value(t, price, n != 24))
	}
	bounds := []time.Time{hour(0), hour(24), hour(48), hour(72), hour(96)}
	h, err := f.Aggregate(t.Context(), f.p, bounds, "")
	if err != nil || h.Before != nil {
		t.Fatal(h.Before, err)
	}
	var lines []string
	for _, b := range h.Intervals {
		lines = append(lines, fmt.Sprintf("%d: %s %s %s %s, %d, %v", b.Index, b.Open, b.Close, b.Min, b.Max,
			b.Snapshots, b.Complete))
	}
	want := []string{
		"0: 46.31683569 69.47525354 23.15841785 208.42576063, 4, true",
		"1: 115.79208924 92.63367139 92.63367139 115.79208924, 2, false",
		"3: 231.58417847 231.58417847 231.58417847 231.58417847, 1, true",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("buckets\n%q, want\n%q", lines, want)
	}
	for _, tc := range []struct {
		before time.Time
		want   string
	}{{hour(0), ""}, {hour(0).Add(time.Minute), "46.31683569"}, {hour(24), "69.47525354"},
		{hour(1000), "231.58417847"}} {
		got, err := f.Aggregate(t.Context(), f.p, []time.Time{tc.before, tc.before.Add(time.Hour)}, "")
		if err != nil || (got.Before != nil) != (tc.want != "") || got.Before != nil && got.Before.Total != tc.want {
			t.Errorf("before %s: %+v, %v", tc.before, got.Before, err)
		}
	}
	got, err := f.Aggregate(t.Context(), f.p, []time.Time{hour(25), hour(26)}, "")
	if err != nil || got.Before == nil || got.Before.Complete {
		t.Errorf("the incomplete one: %+v, %v", got.Before, err)
	}
}
