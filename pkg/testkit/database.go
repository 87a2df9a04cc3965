package testkit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

// DB is a database that belongs to one test.
type DB struct {
	*postgres.DB
	URL string // of the superuser; for a second pool or another process
}

// Postgres makes a database with the migrations applied (goose *.sql files at the
// top of the file system; nil for none) and drops it when the test ends.
func Postgres(t testing.TB, migrations fs.FS) *DB {
	t.Helper()
	db, drop, err := Database(t.Context(), migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Database is [Postgres] for an Example, which has no testing.TB. Call drop when
// done.
func Database(ctx context.Context, migrations fs.FS) (db *DB, drop func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	server, err := sharedServer()
	if err != nil {
		return nil, nil, err
	}
	template, err := shared.templates.of(ctx, server, migrations)
	if err != nil {
		return nil, nil, err
	}
	name := "test_" + strings.ToLower(rand.Text()[:12])
	if err := admin(ctx, server, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return nil, nil, err
	}
	dropDatabase := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return admin(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)")
	}
	// A test may race more transactions than there are connections, on a busy machine.
	opened, err := postgres.Open(ctx, postgres.Options{URL: server.URL(name), Name: "test", PoolTimeout: time.Minute})
	if err != nil {
		return nil, nil, errors.Join(err, dropDatabase())
	}
	return &DB{DB: opened, URL: server.URL(name)}, func() error { return errors.Join(opened.Close(), dropDatabase()) },
		nil
}

// databaseTimeout bounds the making of a database, with its template.
const databaseTimeout = 2 * time.Minute

// templates are the databases with migrations applied, by content.
type templates struct {
	mu   sync.Mutex
	made map[string]func() error
}

// of returns the name of the template for these migrations, which the first call
// makes. Concurrent calls for the same migrations wait for it.
func (ts *templates) of(ctx context.Context, server *pgserver.Server, migrations fs.FS) (string, error) {
	if migrations == nil {
		return "template1", nil
	}
	hash, err := contentHash(migrations)
	if err != nil {
		return "", err
	}
	name := "template_" + hash
	ts.mu.Lock()
	if ts.made == nil {
		ts.made = map[string]func() error{}
	}
	build := ts.made[name]
	if build == nil {
		build = sync.OnceValue(func() error {
			// Not cancelled with the test that comes first: others wait for it too.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTimeout)
			defer cancel()
			return makeTemplate(ctx, server, name, migrations)
		})
		ts.made[name] = build
	}
	ts.mu.Unlock()
	return name, build()
}

func makeTemplate(ctx context.Context, server *pgserver.Server, name string, migrations fs.FS) error {
	if err := admin(ctx, server, "CREATE DATABASE "+name); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: server.URL(name)})
	if err != nil {
		return err
	}
	err = postgres.Migrate(ctx, db, migrations)
	if closed := db.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	// A connection to the template, also an autovacuum's, would make CREATE
	// DATABASE fail.
	return admin(ctx, server, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
}

func admin(ctx context.Context, server *pgserver.Server, statement string) error {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return fmt.Errorf("testkit: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("testkit: %s: %w", statement, err)
	}
	return nil
}

func contentHash(migrations fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(migrations, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(migrations, path)
		_, _ = fmt.Fprintf(sum, "%d %s %d ", len(path), path, len(b))
		sum.Write(b)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
}
