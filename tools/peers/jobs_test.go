package peers

import (
	"context"
	"database/sql"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

const (
	drained     = 5000 // runs that are due when the clock starts
	drainRounds = 3    // of each, by turns
	poolSize    = 10   // connections of each library
	limit       = 2 * time.Minute
)

// queue is one library with a store of its own.
type queue struct {
	fill  func(n int)
	start func(ran *atomic.Int64) (stop func())
	open  func() int // runs that the store doesn't have as completed
}

// drain returns the time from the start of a worker until the store has each of n runs as completed.
func (q queue) drain(b *testing.B, n int) time.Duration {
	b.Helper()
	q.fill(n)
	var ran atomic.Int64
	begin := time.Now()
	stop := q.start(&ran)
	for ran.Load() < int64(n) || q.open() > 0 {
		if time.Since(begin) > limit {
			b.Fatalf("%d of %d ran, %d are open", ran.Load(), n, q.open())
		}
		<-time.After(2 * time.Millisecond)
	}
	took := time.Since(begin)
	stop()
	if ran.Load() != int64(n) {
		b.Fatalf("%d runs of %d", ran.Load(), n)
	}
	return took
}

func durable(b *testing.B) *pgserver.Server {
	b.Helper()
	s, err := pgserver.Start(b.Context(), pgserver.Options{Durable: true})
	must(b, err)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_ = s.Stop(ctx)
	})
	db, err := sql.Open("pgx", s.URL("postgres"))
	must(b, err)
	defer func() { _ = db.Close() }()
	for _, name := range []string{"ours", "river"} {
		_, err = db.ExecContext(b.Context(), "CREATE DATABASE "+name)
		must(b, err)
	}
	return s
}

// ourJobs is a job of package jobs with a run for each of its shards at a time.
func ourJobs(b *testing.B, s *pgserver.Server, shards int) queue {
	b.Helper()
	ctx := b.Context()
	db, err := postgres.Open(ctx, postgres.Options{URL: s.URL("ours"), MaxOpenConns: poolSize})
	must(b, err)
	b.Cleanup(func() { _ = db.Close() })
	must(b, db.Gorm(ctx).Exec(jobs.Schema).Error)
	must(b, db.Gorm(ctx).Exec(`INSERT INTO job_schedules (job, planned_until) VALUES ('j', now())`).Error)
	return queue{
		fill: func(n int) {
			must(b, db.Gorm(ctx).Exec(`
				INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
				SELECT 'j', now() + i * interval '1 microsecond', i % ?, ?, now(), true
				FROM generate_series(1, ?) AS i`, shards, shards, n).Error)
		},
		start: func(ran *atomic.Int64) func() {
			r := jobs.New(db, jobs.Options{Concurrency: 8})
			must(b, r.Add(jobs.Job{Name: "j", Shards: shards, Run: func(context.Context, *jobs.Run) error {
				ran.Add(1)
				return nil
			}}))
			must(b, r.Start())
			return func() { must(b, r.Shutdown(ctx)) }
		},
		open: func() (n int) {
			must(b, db.Gorm(ctx).Raw(`SELECT count(*) FROM job_runs WHERE state IN ('due', 'running')`).Scan(&n).Error)
			return n
		},
	}
}

type riverArgs struct{}

func (riverArgs) Kind() string { return "run" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	ran *atomic.Int64
}

func (w *riverWorker) Work(context.Context, *river.Job[riverArgs]) error {
	w.ran.Add(1)
	return nil
}

// byRiver is river with the settings that o changes of the default ones.
func byRiver(b *testing.B, s *pgserver.Server, workers int, o func(*river.Config)) queue {
	b.Helper()
	ctx := b.Context()
	config, err := pgxpool.ParseConfig(s.URL("river"))
	must(b, err)
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(b, err)
	b.Cleanup(pool.Close)
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	must(b, err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(b, err)
	client := func(ran *atomic.Int64) *river.Client[pgx.Tx] {
		known := river.NewWorkers()
		river.AddWorker(known, &riverWorker{ran: ran})
		c := &river.Config{Logger: slog.New(slog.DiscardHandler), Workers: known,
			Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}}
		o(c)
		made, err := river.NewClient(driver, c)
		must(b, err)
		return made
	}
	return queue{
		fill: func(n int) {
			for part := range slices.Chunk(slices.Repeat([]river.InsertManyParams{{Args: riverArgs{}}}, n), 1000) {
				_, err := client(nil).InsertManyFast(ctx, part)
				must(b, err)
			}
		},
		start: func(ran *atomic.Int64) func() {
			c := client(ran)
			must(b, c.Start(ctx))
			return func() { must(b, c.Stop(ctx)) }
		},
		open: func() (n int) {
			must(b, pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE state <> 'completed'`).Scan(&n))
			return n
		},
	}
}

// quick is the shortest pauses that river allows for.
func quick(c *river.Config) {
	c.FetchCooldown, c.FetchPollInterval = river.FetchCooldownMin, 20*time.Millisecond
}

// byAsynq keeps what it has completed, as the others do, but in Redis: what the last second wrote is lost with it.
func byAsynq(b *testing.B) queue {
	b.Helper()
	o, err := asynq.ParseRedisURI(testkit.Redis(b).URL())
	must(b, err)
	client, inspector := asynq.NewClient(o), asynq.NewInspector(o)
	b.Cleanup(func() { _, _ = client.Close(), inspector.Close() })
	return queue{
		fill: func(n int) {
			for range n {
				_, err := client.Enqueue(asynq.NewTask("j", nil), asynq.Retention(time.Hour))
				must(b, err)
			}
		},
		start: func(ran *atomic.Int64) func() {
			server := asynq.NewServer(o, asynq.Config{Concurrency: 100, LogLevel: asynq.FatalLevel})
			must(b, server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
				ran.Add(1)
				return nil
			})))
			return server.Shutdown
		},
		open: func() int {
			q, err := inspector.GetQueueInfo("default")
			must(b, err)
			return q.Size - q.Completed
		},
	}
}

// Runs that do nothing, a row each, from the first claim to the last completion that the store has.
func BenchmarkDrain(b *testing.B) {
	s := durable(b)
	for _, c := range []struct {
		name   string
		peer   func(*testing.B) queue
		shards int
		goal   float64 // of the time of a run; 0 for none
	}{
		{"river at its quickest", func(b *testing.B) queue { return byRiver(b, s, 2000, quick) }, 8, 1},
		{"river with its own settings", func(b *testing.B) queue {
			return byRiver(b, s, 100, func(*river.Config) {})
		}, 8, 1},
		{"river at its quickest, one shard", func(b *testing.B) queue { return byRiver(b, s, 2000, quick) }, 1, 1},
		{"asynq on Redis", byAsynq, 8, 0},
	} {
		b.Run("beside "+c.name, func(b *testing.B) {
			empty(b, s)
			ours, theirs := ourJobs(b, s, c.shards), c.peer(b)
			ours.drain(b, 100)
			theirs.drain(b, 100)
			var took [2][]time.Duration
			b.ResetTimer()
			for i := range drainRounds {
				for turn := range 2 {
					side := (i + turn) % 2
					took[side] = append(took[side], []queue{ours, theirs}[side].drain(b, drained))
				}
			}
			b.StopTimer()
			a, z := median(took[0]), median(took[1])
			b.ReportMetric(a/drained, "ns/op")
			b.ReportMetric(z/drained, "raw-ns/op")
			b.ReportMetric(a/z, "ratio")
			b.ReportMetric(drained/a*1e9, "runs/s")
			b.ReportMetric(drained/z*1e9, "peer-runs/s")
			if c.goal > 0 {
				b.ReportMetric(c.goal, "goal")
			}
		})
	}
}

func median(x []time.Duration) float64 {
	slices.Sort(x)
	return float64(x[len(x)/2])
}

// empty leaves nothing of the tables of a comparison before.
func empty(b *testing.B, s *pgserver.Server) {
	b.Helper()
	for _, name := range []string{"ours", "river"} {
		db, err := sql.Open("pgx", s.URL(name))
		must(b, err)
		_, err = db.ExecContext(b.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
		must(b, err)
		must(b, db.Close())
	}
}
