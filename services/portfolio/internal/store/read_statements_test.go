package store_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// counter counts the statements of a database.
type counter struct {
	spans   *tracetest.InMemoryExporter
	tracing *sdktrace.TracerProvider
	*postgres.DB
}

func (f fixture) counter(t *testing.T) counter {
	t.Helper()
	c := counter{spans: tracetest.NewInMemoryExporter()}
	c.tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(c.spans))
	var err error
	// With one connection all statements are prepared once the first call has ended.
	c.DB, err = postgres.Open(t.Context(), postgres.Options{URL: f.db.URL, TracerProvider: c.tracing, MaxOpenConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// of returns the statements of a call.
func (c counter) of(t *testing.T, call func(ctx context.Context) error) (statements []string) {
	t.Helper()
	c.spans.Reset()
	ctx, span := c.tracing.Tracer("test").Start(t.Context(), "call")
	err := call(ctx)
	span.End()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.spans.GetSpans() {
		if s.Name != "call" {
			statements = append(statements, s.Name)
		}
	}
	return statements
}

// uncached has no cache of timelines.
type uncached struct{ *store.Snapshots }

func (s uncached) Aggregate(ctx context.Context, p portfolio.Portfolio, bounds []time.Time,
	_ string) (timeline.Aggregates, error) {
	all, err := s.AggregateUncached(ctx, p.ID, bounds)
	return timeline.Aggregates{Intervals: all}, err
}

func TestTheNumberOfStatementsOfAReadDoesNotGrow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	c := f.counter(t)
	const hours, tokens = 100, 40 // fewer positions than a page of an export has
	large := f.portfoliosOf(t, 1)[0]
	var all []valuation.Valuation
	for h := range hours {
		var held []valuation.Holding
		for n := range tokens {
			held = append(held, holding(fmt.Sprint("eip155:1/erc20:", n), int64(1+n+h), "2", ""))
		}
		all = append(all, valued(t, hour(h), held...))
	}
	if _, err := f.SaveBackfilled(t.Context(), large, all); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{valued(t, hour(0),
		holding("eip155:1/erc20:0", 1, "2", ""))}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.SQL().ExecContext(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return hour(hours) }
	caches := f.caches(t)
	s := store.NewSnapshots(c.DB, caches)
	portfolios := portfolio.NewService(store.NewPortfolios(c.DB, caches), s, nil, nil, now)
	exporter := export.NewService(s, dollars(), now)
	from, until := hour(0), hour(hours)
	// Each returns how much it has read.
	for name, read := range map[string]func(context.Context, portfolio.Portfolio) (int, error){
		"GetTimeline": func(ctx context.Context, p portfolio.Portfolio) (n int, err error) {
			points, err := timeline.NewService(uncached{s}, dollars(), now).Points(ctx, p,
				timeline.Request{Start: from, End: until, Interval: timeline.Hourly})
			for _, point := range points.Points {
				n += point.Snapshots
			}
			return n, err
		},
		"GetValuation of the past": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			v, err := portfolios.ValueAt(ctx, p, until)
			return len(v.Positions), err
		},
		"ListSnapshots": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			list, err := s.List(ctx, p.ID, time.Time{}, 500)
			return len(list), err
		},
		"GetPerformance": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			m, err := performance.NewService(s, dollars(), now).Measure(ctx, p, performance.Request{Start: from,
				End: until, Interval: timeline.Hourly})
			return 1 + m.Flows, err
		},
		"GetAllocationHistory": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			h, err := allocation.NewService(portfolios, s, dollars(), now).History(ctx, p,
				allocation.HistoryRequest{Start: from, End: until, MaxEntries: 100})
			return len(h.Series), err
		},
		"ExportSnapshots": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			return exporter.Write(ctx, p, export.Request{Start: from, End: until}, io.Discard)
		},
		"ExportSnapshots with positions": func(ctx context.Context, p portfolio.Portfolio) (int, error) {
			return exporter.Write(ctx, p, export.Request{Start: from, End: until, Positions: true}, io.Discard)
		},
	} {
		t.Run(name, func(t *testing.T) {
			count := func(p portfolio.Portfolio, least, most int) string {
				return fmt.Sprint(c.of(t, func(ctx context.Context) error {
					n, err := read(ctx, p)
					if err == nil && (n < least || n > most) {
						err = fmt.Errorf("%d were read, want %d to %d", n, least, most)
					}
					return err
				}))
			}
			count(f.p, 1, 1) // these two prepare the statements
			count(large, tokens, hours*tokens)
			few, many := count(f.p, 1, 1), count(large, tokens, hours*tokens)
			if few != many || !strings.Contains(few, "SELECT") && !strings.Contains(few, "WITH") {
				t.Errorf("of 1 hour and token %s\nof %d hours and %d tokens %s", few, hours, tokens, many)
			}
		})
	}
}

// The hourly job takes no more statements for a batch of 200 owners than for one owner, whether what they hold has
// changed or not.
func TestTheNumberOfStatementsOfTheHourlyJobIsThatOfItsBatches(t *testing.T) {
	t.Parallel()
	const all, batch = 2500, 200
	f := newFixture(t, noRedis)
	c := f.counter(t)
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := f.db.SQL().ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	wallet := valuation.Wallet{ID: uuid.NewString(), Account: "eip155:1:0x1", Synced: true}
	var owners []uuid.UUID
	for range all {
		owners = append(owners, uuid.New())
	}
	exec("DELETE FROM portfolios")
	exec(`INSERT INTO portfolios (id, owner_id, name, is_default, created_at)
		SELECT gen_random_uuid(), owner, 'All wallets', true, now() FROM unnest($1::uuid[]) AS owner`, owners)
	exec(`INSERT INTO memberships (portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets)
		SELECT id, '1970-01-01 00:00:00+00', 1, '{}', $1, false FROM portfolios`,
		portfolio.Digest([]valuation.Wallet{wallet}))
	caches := f.caches(t)
	portfolios, s := store.NewPortfolios(c.DB, caches), store.NewSnapshots(c.DB, caches)
	next := 0
	run := func(owners []uuid.UUID, change int64) []string {
		t.Helper()
		next++
		var held ownersOfShard
		for _, owner := range owners {
			w := wallet
			w.SyncTime = hour(next)
			held = append(held, snapshot.OwnerHoldings{Owner: owner, Wallets: []valuation.Wallet{w},
				Holdings: []valuation.Holding{{TokenID: "eip155:1/erc20:0", Symbol: "T", Verified: true,
					Amount: big.NewInt(7 + change), Price: valuation.Price{Amount: "2", Source: "test",
						Time: hour(next)}}}})
		}
		job := snapshot.NewHourlyJob(portfolios, nil, s, held,
			func(ctx context.Context) (context.Context, error) { return ctx, nil }, slog.New(slog.DiscardHandler),
			func() time.Time { return hour(next).Add(time.Minute) })
		statements := c.of(t, func(ctx context.Context) error { return job.Run(ctx, 0, 1) })
		if n := f.count(t, "SELECT count(*) FROM snapshots WHERE bucket = $1", hour(next)); n != len(owners) {
			t.Fatalf("%d snapshots, want %d", n, len(owners))
		}
		return statements
	}
	run(owners, 0) // these two prepare the statements
	run(owners[:1], 1)
	run(owners[:1], 1)
	for name, change := range map[string]int64{"changes": 1, "no changes": 0} {
		amount := int64(10)
		if name == "no changes" {
			run(owners, amount)
		}
		most := map[string]int{"changes": 20, "no changes": 16}[name]
		for _, n := range []int{1, batch, all} {
			amount += change
			statements := run(owners[:n], amount)
			batches := (n + batch - 1) / batch
			testkit.Figure(t, "the hourly job of %d owners with %s: %d statements in %d batches", n, name,
				len(statements), batches)
			// Batches after the first one find the prices of the hour.
			if len(statements) > batches*most {
				t.Errorf("%d owners with %s: %d statements in %d batches, want at most %d each: %v", n, name,
					len(statements), batches, most, statements[:min(len(statements), 60)])
			}
		}
	}
}
