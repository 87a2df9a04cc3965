package testkit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

// DB is a test's own database.
type DB struct {
	*postgres.DB
	URL string // of the superuser; for a second pool or another process
}

// Postgres makes a fresh database with the migrations (goose *.sql files at
// the top of the file system; nil for none) applied, and drops it when the
// test ends.
func Postgres(t testing.TB, migrations fs.FS) *DB {
	t.Helper()
	ctx := t.Context()
	server := sharedServer(t)
	from, err := shared.templates.of(ctx, server, migrations)
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text()[:12])
	if err := admin(ctx, server, "CREATE DATABASE "+name+" TEMPLATE "+from); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin(context.Background(), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	db, err := postgres.Open(ctx, postgres.Options{URL: server.URL(name), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &DB{DB: db, URL: server.URL(name)}
}

// templates are the databases with migrations applied, by content.
type templates struct {
	mu   sync.Mutex
	made map[string]func() error
}

// of returns the name of a template for these migrations and makes it the
// first time. Tests that ask meanwhile wait; others go on.
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
		// The test that comes first must not take the template down with it.
		ctx := context.WithoutCancel(ctx)
		build = sync.OnceValue(func() error { return makeTemplate(ctx, server, name, migrations) })
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
	// A connection to the template, an autovacuum's included, would make the
	// clones fail.
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
