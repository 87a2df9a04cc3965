package store_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// portfoliosOf makes portfolios of new owners.
func (f fixture) portfoliosOf(t *testing.T, n int) (all []portfolio.Portfolio) {
	t.Helper()
	portfolios := f.portfolios(t)
	for range n {
		p, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestAnHourOfManyPortfoliosIsStoredTogether(t *testing.T) {
	f := newFixture(t, noRedis)
	all := f.portfoliosOf(t, 40)
	for n := range 3 {
		var values []snapshot.Valued
		for i, p := range all {
			held := holding("a", int64(i+1), fmt.Sprint(n+1), "")
			if n == 2 && i%2 == 1 {
				held = holding("b", int64(i+1), "5", "")
			}
			values = append(values, snapshot.Valued{Portfolio: p, Valuation: valued(t, hour(n), held)})
		}
		gone := snapshot.Valued{Portfolio: newDefault(uuid.New()), Valuation: values[0].Valuation}
		stored, err := f.SaveHour(t.Context(), hour(n), append(values, gone))
		if err != nil || stored != len(all) {
			t.Fatal(stored, err)
		}
		if stored, err := f.SaveHour(t.Context(), hour(n), values); err != nil || stored != 0 {
			t.Errorf("again: %d, %v", stored, err)
		}
	}
	for i, p := range all {
		f.p = p
		want := fmt.Sprintf("map[0:a  %d000000 1 1:a  %[1]d000000 2 2:a  %[1]d000000 3]", i+1)
		if i%2 == 1 {
			want = fmt.Sprintf("map[0:a  %d000000 1 1:a  %[1]d000000 2 2:b  %[1]d000000 5]", i+1)
		}
		got := map[int64]string{}
		for at, positions := range f.positionsOf(t.Context(), t) {
			got[(at-hour(0).Unix())/3600] = positions
		}
		if fmt.Sprint(got) != want {
			t.Errorf("portfolio %d has %v, want %s", i, got, want)
		}
		flows := fmt.Sprintf("[- 0 %d]", map[bool]int{false: 0, true: 3 * (i + 1)}[i%2 == 1])
		if got := fmt.Sprint(f.flows(t)); got != flows {
			t.Errorf("portfolio %d has the flows %s, want %s", i, got, flows)
		}
	}
}

func TestTheNumberOfStatementsDoesNotGrowWithThePortfolios(t *testing.T) {
	f := newFixture(t, noRedis)
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	traced, err := postgres.Open(t.Context(), postgres.Options{URL: f.db.URL, TracerProvider: tracing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = traced.Close() })
	s := store.NewSnapshots(traced, f.caches(t))
	all := f.portfoliosOf(t, 50)
	for n, portfolios := range []int{50, 50, 1, 50} { // the first two prepare the statements
		var values []snapshot.Valued
		for _, p := range all[:portfolios] {
			values = append(values, snapshot.Valued{Portfolio: p,
				Valuation: valued(t, hour(n), holding("a", 7, "2", ""))})
		}
		spans.Reset()
		ctx, call := tracing.Tracer("test").Start(t.Context(), "call")
		stored, err := s.SaveHour(ctx, hour(n), values)
		call.End()
		if err != nil || stored != portfolios {
			t.Fatal(stored, err)
		}
		var statements []string
		for _, span := range spans.GetSpans() {
			statements = append(statements, span.Name)
		}
		// Where no position has changed, none is read or written.
		const want = `[BEGIN SELECT SELECT SELECT UPDATE SELECT copy_from "hour_prices" INSERT SELECT ` +
			`WITH COMMIT call]`
		if n > 1 && fmt.Sprint(statements) != want {
			t.Errorf("%d portfolios take %v", portfolios, statements)
		}
	}
}

func TestTheNumberOfStatementsDoesNotGrowWithTheHours(t *testing.T) {
	f := newFixture(t, noRedis)
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	traced, err := postgres.Open(t.Context(), postgres.Options{URL: f.db.URL, TracerProvider: tracing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = traced.Close() })
	s := store.NewSnapshots(traced, f.caches(t))
	for i, hours := range []int{2, 1, 500} { // the first prepares them
		var list []int
		for n := range hours {
			list = append(list, 1000*i+n)
		}
		values := backfilled(t, "1", even, list...)
		spans.Reset()
		ctx, call := tracing.Tracer("test").Start(t.Context(), "call")
		stored, err := s.SaveBackfilled(ctx, f.p, values)
		call.End()
		if err != nil || len(stored) != hours {
			t.Fatal(len(stored), err)
		}
		var statements []string
		for _, span := range spans.GetSpans() {
			statements = append(statements, span.Name)
		}
		// The first WITH is for price gaps: some of the hours lack a price.
		const want = `[BEGIN SELECT SELECT SELECT UPDATE SELECT copy_from "hour_prices" INSERT SELECT SELECT ` +
			`WITH INSERT SELECT UPDATE WITH COMMIT call]`
		if hours != 2 && fmt.Sprint(statements) != want {
			t.Errorf("%d hours take %v", hours, statements)
		}
	}
}
