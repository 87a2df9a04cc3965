// Package postgres opens a service's database: a bounded pool of pgx
// connections under gorm, migrations, transactions and the meaning of errors.
//
// Promise: every statement has a timeout on the server; a DB recovers by
// itself when the server comes back; InTx retries what Postgres asks to be
// retried and nothing else; no password and no statement value gets into an
// error, a log line or a span.
//
// Limits: a single gorm write is not wrapped in a transaction of its own, so
// whatever takes two statements (associations included) belongs in [InTx]. A
// server that hangs without closing its connections is noticed by the caller's
// deadline only. Behind PgBouncer the timeouts have to be set on the role, and
// migrations have to go past it, since they hold a session lock.
//
// Source: PostgreSQL documentation, appendix A (error codes) and "Serializable
// Isolation Level"; pgx and gorm documentation.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.opentelemetry.io/otel/trace"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// Options says which database to open and how hard to lean on it. Zero values
// take the defaults named.
type Options struct {
	// URL is postgres://user:password@host:port/database?….
	URL string
	// Name is shown as application_name in pg_stat_activity.
	Name string

	MaxOpenConns int // 10
	MaxIdleConns int // MaxOpenConns

	ConnectTimeout   time.Duration // 3 s
	PoolTimeout      time.Duration // 2 s: how long InTx waits for a connection
	StatementTimeout time.Duration // 5 s
	LockTimeout      time.Duration // 2 s
	ConnMaxLifetime  time.Duration // 30 min
	ConnMaxIdleTime  time.Duration // 5 min

	// PgBouncer turns named prepared statements and start-up parameters off.
	PgBouncer bool
	// Lazy opens without reaching the database. A server that is to start
	// while its database is away sets it; a migration doesn't.
	Lazy bool

	// SlowQuery is how long a statement takes to be logged; 500 ms, negative
	// for never.
	SlowQuery time.Duration
	// Log receives slow statements without their values; nil means none.
	Log *slog.Logger
	// TracerProvider is otel's global one when nil.
	TracerProvider trace.TracerProvider
}

// DB is a service's database. It is safe for concurrent use.
type DB struct {
	gorm        *gorm.DB
	sql         *sql.DB
	config      *pgx.ConnConfig
	log         *slog.Logger
	poolTimeout time.Duration
}

// Open checks the options and, unless they say Lazy, reaches the database, at
// most for the connect timeout. Close the DB when done.
func Open(ctx context.Context, o Options) (*DB, error) {
	o = withDefaults(o)
	config, err := connConfig(o)
	if err != nil {
		return nil, err
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(o.MaxOpenConns)
	pool.SetMaxIdleConns(o.MaxIdleConns)
	pool.SetConnMaxLifetime(o.ConnMaxLifetime)
	pool.SetConnMaxIdleTime(o.ConnMaxIdleTime)
	g, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: pool}), &gorm.Config{
		Logger:                 &slowLog{threshold: o.SlowQuery, log: o.Log},
		TranslateError:         true,
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		NowFunc:                func() time.Time { return time.Now().UTC() },
	})
	if err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db := &DB{gorm: g, sql: pool, config: config, log: o.Log, poolTimeout: o.PoolTimeout}
	if o.Lazy {
		return db, nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		_ = pool.Close()
		return nil, err
	}
	return db, nil
}

// Gorm is the repository layer's handle, with ctx for every statement.
func (d *DB) Gorm(ctx context.Context) *gorm.DB { return d.gorm.WithContext(ctx) }

// SQL is the pool below gorm.
func (d *DB) SQL() *sql.DB { return d.sql }

// Ping reaches the server, within ctx.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.sql.PingContext(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Close closes the pool after the statements that run have ended.
func (d *DB) Close() error { return d.sql.Close() }

func withDefaults(o Options) Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&o.ConnectTimeout, 3*time.Second)
	set(&o.PoolTimeout, 2*time.Second)
	set(&o.StatementTimeout, 5*time.Second)
	set(&o.LockTimeout, 2*time.Second)
	set(&o.ConnMaxLifetime, 30*time.Minute)
	set(&o.ConnMaxIdleTime, 5*time.Minute)
	set(&o.SlowQuery, 500*time.Millisecond)
	if o.MaxOpenConns == 0 {
		o.MaxOpenConns = 10
	}
	if o.MaxIdleConns == 0 {
		o.MaxIdleConns = o.MaxOpenConns
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// errURL carries nothing of the URL: a malformed one can't be masked.
var errURL = errors.New("postgres: the database URL is malformed; it should read " +
	"postgres://user:password@host:port/database")

func connConfig(o Options) (*pgx.ConnConfig, error) {
	if u, err := url.Parse(o.URL); err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return nil, errURL
	}
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, errURL
	}
	config.ConnectTimeout = o.ConnectTimeout
	var tracing []otelpgx.Option
	if o.TracerProvider != nil {
		tracing = append(tracing, otelpgx.WithTracerProvider(o.TracerProvider))
	}
	config.Tracer = otelpgx.NewTracer(tracing...)
	if o.Name != "" {
		config.RuntimeParams["application_name"] = o.Name
	}
	if o.PgBouncer {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		return config, nil
	}
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["statement_timeout"] = milliseconds(o.StatementTimeout)
	config.RuntimeParams["lock_timeout"] = milliseconds(o.LockTimeout)
	config.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(4 * o.StatementTimeout)
	return config, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
