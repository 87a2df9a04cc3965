// Package postgres opens a service's database: a bounded pool of pgx connections
// under gorm, with migrations, transactions and the classification of errors.
//
// Promise: every statement has a timeout on the server; a DB recovers by itself when
// the server does; InTx retries the errors that Postgres documents as retryable and
// no others; no password and no value of a statement appears in an error, a log line
// or a span.
//
// Limits: gorm doesn't wrap a single write in a transaction, so what takes two
// statements, associations included, belongs in [InTx]. When a server hangs without
// closing its connections, only the caller's deadline ends a statement. Behind
// PgBouncer the timeouts have to be set on the role, and migrations need a direct
// connection, since they hold a session lock. No timeout
// but the caller's bounds a commit that waits for a synchronous standby. No timeout of
// the server ends a statement whose result this process has stopped to read, as while
// it stands still: its locks are kept until the process goes on or is killed.
//
// Source: PostgreSQL documentation, appendix A (error codes) and "Serializable
// Isolation Level"; pgx and gorm documentation.
package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
	"go.opentelemetry.io/otel/trace"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/deadline"
)

// Options of a DB. Zero values mean the defaults named.
type Options struct {
	// URL is postgres://user:password@host:port/database?….
	URL string
	// Name is shown as application_name in pg_stat_activity.
	Name string

	MaxOpenConns int // 10
	MaxIdleConns int // MaxOpenConns

	ConnectTimeout   time.Duration // of each host of the URL; 3 s, or its share of what ctx leaves if that is less
	PoolTimeout      time.Duration // of InTx's wait for a connection; 2 s
	StatementTimeout time.Duration // 5 s
	LockTimeout      time.Duration // 2 s
	ConnMaxLifetime  time.Duration // 30 min
	ConnMaxIdleTime  time.Duration // 5 min

	// Wait is how long Open waits for a database that is unavailable, unless Lazy is set;
	// 0 for not at all. Each attempt that fails is logged.
	Wait time.Duration
	// MigrationLockTimeout bounds the wait of a migration for another one; 5 min.
	MigrationLockTimeout time.Duration

	// PgBouncer disables named prepared statements and start-up parameters. The timeouts
	// hold in transactions then, each of which sets them; a statement outside of one is
	// bounded by its context alone.
	PgBouncer bool
	// Lazy opens without connecting, so that a service can start while its
	// database is unavailable.
	Lazy bool

	// SlowQuery is the duration from which on a statement is logged; 500 ms,
	// negative for never.
	SlowQuery time.Duration
	// Log receives slow statements without their values; nil means none.
	Log *slog.Logger
	// TracerProvider is otel's global one when nil.
	TracerProvider trace.TracerProvider
}

// waitInterval is between two attempts of Open.
const waitInterval = time.Second

// DB is a service's database. It is safe for concurrent use.
type DB struct {
	gorm        *gorm.DB
	sql         *sql.DB
	config      *pgx.ConnConfig
	hosts       *hosts
	log         *slog.Logger
	poolTimeout time.Duration
	connections int // at most
	unobserve   func()

	migrationLockTimeout time.Duration
	pgBouncer            bool
	// beginning is what a transaction begins with; empty except behind a PgBouncer.
	beginning string
}

// encodeUUIDs has uuid.UUID sent as 16 bytes. Without it pgx takes it for a driver.Valuer, whose text it parses again,
// after an attempt that fails: a third of the time to send large arrays.
func encodeUUIDs(_ context.Context, c *pgx.Conn) error {
	pgxuuid.Register(c.TypeMap())
	return nil
}

// Open opens a database. Unless o.Lazy is set it connects, within ConnectTimeout or
// Wait, whichever is longer. Close the DB when done.
func Open(ctx context.Context, o Options) (*DB, error) {
	o = withDefaults(o)
	config, err := connConfig(o)
	if err != nil {
		return nil, err
	}
	hosts := orderHosts(config)
	opened := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hosts.order),
		stdlib.OptionAfterConnect(encodeUUIDs))
	opened.SetMaxOpenConns(o.MaxOpenConns)
	opened.SetMaxIdleConns(o.MaxIdleConns)
	opened.SetConnMaxLifetime(o.ConnMaxLifetime)
	opened.SetConnMaxIdleTime(o.ConnMaxIdleTime)
	g, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: pool{opened, o.MaxOpenConns}}), &gorm.Config{
		Logger:                 &slowLog{threshold: o.SlowQuery, log: o.Log},
		TranslateError:         true,
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		NowFunc:                func() time.Time { return time.Now().UTC() },
	})
	if err != nil {
		_ = opened.Close()
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db := &DB{gorm: g, sql: opened, config: config, hosts: hosts, log: o.Log, poolTimeout: o.PoolTimeout,
		connections: o.MaxOpenConns, unobserve: observe(opened, config.Database),
		migrationLockTimeout: o.MigrationLockTimeout, pgBouncer: o.PgBouncer}
	if o.PgBouncer {
		db.beginning = fmt.Sprintf("SET LOCAL timezone = 'UTC'; SET LOCAL statement_timeout = %s; "+
			"SET LOCAL lock_timeout = %s; SET LOCAL idle_in_transaction_session_timeout = %s",
			milliseconds(o.StatementTimeout), milliseconds(o.LockTimeout), milliseconds(4*o.StatementTimeout))
	}
	if o.Lazy {
		return db, nil
	}
	if err := db.connect(ctx, o); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// connect connects once, and again until o.Wait has passed while the database is
// unavailable: a network policy that does not know the process yet looks like that
// too. A database that refuses the service is no reason to wait.
func (d *DB) connect(ctx context.Context, o Options) error {
	for end := time.Now().Add(o.Wait); ; {
		attempt, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
		err := d.Ping(attempt)
		cancel()
		if err == nil || refuses(err) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		d.log.WarnContext(ctx, "waiting for the database", "error", err,
			"remaining", time.Until(end).Round(time.Second))
		if deadline.Pause(ctx, waitInterval) != nil {
			return err
		}
	}
}

// Gorm returns a gorm handle whose statements use ctx.
func (d *DB) Gorm(ctx context.Context) *gorm.DB { return d.gorm.WithContext(ctx) }

// SQL returns the pool under gorm.
func (d *DB) SQL() *sql.DB { return d.sql }

// Ping connects to the server, within ctx.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.sql.PingContext(ctx); err != nil {
		return fmt.Errorf("postgres: %w", withPooler(err))
	}
	return nil
}

// Close closes the pool after running statements have ended.
func (d *DB) Close() error {
	d.unobserve()
	return d.sql.Close()
}

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
	set(&o.MigrationLockTimeout, 5*time.Minute)
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

func connConfig(o Options) (*pgx.ConnConfig, error) {
	config, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = o.ConnectTimeout
	inSession := config.OnPgError
	config.OnPgError = func(c *pgconn.PgConn, answer *pgconn.PgError) bool {
		return inSession(c, answer) && keepsConnection(answer)
	}
	config.OnNotice = noteUnreplicated
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
