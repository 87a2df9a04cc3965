package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// valuedNow is a kpi.Valuer that always has the same value.
type valuedNow struct{ valuation.Valuation }

func (v valuedNow) ValueOrLastSnapshot(context.Context, portfolio.Portfolio) (valuation.Valuation, error) {
	return v.Valuation, nil
}

// dollars has the rate of US dollars alone.
func dollars() *currency.Service { return currency.NewService(nil, nil, time.Now) }

// kpiFixture has five snapshots in the 95 days before now.
func kpiFixture(t testing.TB) (f fixture, now time.Time) {
	t.Helper()
	f = newFixture(t, noRedis)
	now = hour(95 * 24)
	at := func(before time.Duration, holdings ...valuation.Holding) {
		v := valued(t, now.Add(-before), holdings...)
		if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{v}); err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * time.Hour
	at(95*day, holding("a", 10, "10", ""))
	at(90*day+time.Hour, holding("a", 10, "12", ""))
	at(30*day, holding("a", 20, "15", ""))
	at(7*day, holding("a", 20, "20", ""))
	at(day, holding("a", 20, "16", ""), holding("c", 10, "2", ""))
	return f, now
}

// lines returns the figures as text, one a line.
func lines(k kpi.KPI) string {
	text := func(f kpi.Figure) string {
		if f.Unavailable != "" {
			return f.Unavailable
		}
		reduced, _ := f.Value.Reduce(f.Value)
		return reduced.Text('f')
	}
	var out []string
	for _, c := range k.Changes {
		out = append(out, fmt.Sprintf("%d: from %s, gross %s = %s, flow %s, net %s = %s", c.Period, text(c.StartValue),
			text(c.Gross), text(c.GrossRatio), text(c.NetFlow), text(c.Net), text(c.NetRate)))
	}
	move := func(m kpi.Move) string {
		if m.Unavailable != "" {
			return m.Unavailable
		}
		return m.Position.TokenID + " " + text(kpi.Figure{Value: m.Ratio})
	}
	return strings.Join(append(out, fmt.Sprintf("highest %s at %s, now %s", text(k.Highest.Value),
		k.Highest.Time.Format("01-02"), text(k.Highest.Drawdown)),
		"best "+move(k.Best)+", worst "+move(k.Worst)), "\n")
}

func TestTheFiguresAreWhatAPersonWouldWorkOut(t *testing.T) {
	f, now := kpiFixture(t)
	live := valued(t, now, holding("a", 20, "18", ""), holding("c", 10, "1", ""))
	unpriced := valued(t, now, holding("a", 20, "18", ""), holding("c", 10, "", valuation.ReasonNoPrice))
	young := newFixture(t, noRedis)
	const none = "from %[1]s, gross %[1]s = %[1]s, flow %[1]s, net %[1]s = %[1]s"
	noStart := fmt.Sprintf(none, kpi.ReasonNoSnapshotAtStart)
	for name, tc := range map[string]struct {
		f    fixture
		v    valuation.Valuation
		want string
	}{
		"now": {f, live, `1: from 340, gross 30 = 0.088235294118, flow 0, net 30 = 0.088235294118
2: from 400, gross -30 = -0.075, flow 20, net -50 = -0.129411764706
3: from 300, gross 70 = 0.233333333333, flow 20, net 50 = 0.160784313725
4: from 120, gross 250 = 2.083333333333, flow 170, net 80 = 0.450980392157
5: ` + noStart + `
6: ` + noStart + `
7: from 100, gross 270 = 2.7, flow 170, net 100 = 0.741176470588
highest 400 at 05-28, now -0.075
best a 0.125, worst c -0.5`},
		// The value of now lacks c, which is not money that went.
		"while a price is away": {f, unpriced, "1: " + noStart + `
2: from 400, gross -60 = -0.15, flow 20, net -80 = -0.2
3: from 300, gross 40 = 0.133333333333, flow 20, net 20 = 0.066666666667
4: from 120, gross 220 = 1.833333333333, flow 170, net 50 = 0.333333333333
5: ` + noStart + `
6: ` + noStart + `
7: from 100, gross 240 = 2.4, flow 170, net 70 = 0.6
highest 400 at 05-28, now -0.15
best a 0.125, worst a 0.125`},
		"without snapshots": {young, live, strings.Join([]string{
			"1: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots), "2: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots),
			"3: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots), "4: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots),
			"5: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots), "6: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots),
			"7: " + fmt.Sprintf(none, kpi.ReasonNoSnapshots), "highest NO_SNAPSHOTS at 01-01, now NO_SNAPSHOTS",
			"best NO_SNAPSHOTS, worst NO_SNAPSHOTS"}, "\n")},
	} {
		t.Run(name, func(t *testing.T) {
			s := kpi.NewService(valuedNow{tc.v}, tc.f, dollars(), func() time.Time { return now })
			k, err := s.Figures(t.Context(), tc.f.p, kpi.Request{Zone: "Europe/Zurich"})
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(k); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// The year of a caller begins at their midnight: in Auckland half a day before that of UTC.
func TestTheYearToDateIsThatOfTheCallersZone(t *testing.T) {
	f := newFixture(t, noRedis)
	newYear := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, h := range []int{-14, -12, 0, 20} {
		v := valued(t, newYear.Add(time.Duration(h)*time.Hour), holding("a", 1, fmt.Sprint(100+h), ""))
		if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{v}); err != nil {
			t.Fatal(err)
		}
	}
	now := newYear.Add(30 * time.Hour)
	for zone, want := range map[string]string{"": "100.00000000", "Pacific/Auckland": "86.00000000"} {
		k, err := kpi.NewService(valuedNow{valued(t, now, holding("a", 1, "150", ""))}, f, dollars(),
			func() time.Time { return now }).Figures(t.Context(), f.p, kpi.Request{Zone: zone})
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Changes[kpi.YearToDate-1]; got.StartValue.Value == nil || got.StartValue.Value.Text('f') != want {
			t.Errorf("in %q the year begins with %+v, want %s", zone, got, want)
		}
	}
}

func TestTheNumberOfStatementsOfTheFiguresIsFixed(t *testing.T) {
	f, now := kpiFixture(t)
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	traced, err := postgres.Open(t.Context(), postgres.Options{URL: f.db.URL, TracerProvider: tracing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = traced.Close() })
	live := valuedNow{valued(t, now, holding("a", 20, "18", ""))}
	s := kpi.NewService(live, store.NewSnapshots(traced, f.caches(t)), dollars(), func() time.Time { return now })
	for i := range 3 { // the first prepares the statements
		spans.Reset()
		ctx, call := tracing.Tracer("test").Start(t.Context(), "call")
		_, err := s.Figures(ctx, f.p, kpi.Request{})
		call.End()
		if err != nil {
			t.Fatal(err)
		}
		statements := 0
		for _, span := range spans.GetSpans() {
			if strings.HasPrefix(span.Name, "SELECT") || strings.HasPrefix(span.Name, "WITH") {
				statements++
			}
		}
		if i > 0 && statements != 4 {
			t.Errorf("%d statements, want 4", statements)
		}
		var more []valuation.Valuation
		for n := range 100 {
			more = append(more, valued(t, hour(100*i+n+1), holding("a", int64(n), "5", ""), holding("b", 1, "2", "")))
		}
		if _, err := f.SaveBackfilled(t.Context(), f.p, more); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkKpi reads the figures of five years of hourly snapshots with a flow a day, from Postgres. Raw is bare SQL
// that reads the highest total and the flows.
func BenchmarkKpi(b *testing.B) {
	f := newFixture(b, noRedis)
	const hours = 5 * 365 * 24
	for year := range 5 {
		_, err := f.db.SQL().ExecContext(b.Context(), `
			INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
			                       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable,
			                       net_flow)
			SELECT $1, t, t, 0, 1234.56789012 + extract(hour FROM t), true, 1, 0, 0, 0, false, true,
			       CASE WHEN extract(hour FROM t) = 12 THEN 1 ELSE 0 END
			FROM generate_series($2::timestamptz, $3::timestamptz, '1 hour') AS t`,
			f.p.ID, hour(year*365*24), hour((year+1)*365*24-1))
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := f.db.SQL().ExecContext(b.Context(), "VACUUM ANALYZE"); err != nil {
		b.Fatal(err)
	}
	now := hour(hours)
	s := kpi.NewService(valuedNow{valued(b, now, holding("a", 20, "18", ""))}, f, dollars(),
		func() time.Time { return now })
	read := func(statement string) {
		rows, err := f.db.SQL().QueryContext(b.Context(), statement, f.p.ID)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		var at time.Time
		var total, flow string
		for rows.Next() {
			if err := rows.Scan(&at, &total, &flow); err != nil {
				b.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			b.Fatal(err)
		}
	}
	versus.Run(b, versus.Comparison{
		Raw: func() {
			read(`SELECT bucket, total::text, '' FROM snapshots WHERE portfolio_id = $1 ORDER BY total DESC LIMIT 1`)
			read(`SELECT bucket, total::text, net_flow::text FROM snapshots WHERE portfolio_id = $1 AND net_flow <> 0`)
		},
		Ours: func() {
			if k, err := s.Figures(b.Context(), f.p, kpi.Request{}); err != nil || k.Changes[6].Gross.Value == nil {
				b.Fatal(k, err)
			}
		},
	})
}
