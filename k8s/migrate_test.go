package k8s_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/purserhq/purser/pkg/testkit"
)

// A Job that is ended in the middle of a migration, as on a node that is drained, leaves
// the schema as it was, and the next one does it all.
func TestAMigrationThatIsEndedIsDoneByTheNextJob(t *testing.T) {
	t.Parallel()
	c := cluster{render(t, "dev"), map[string]string{}, map[string]string{}, freeAddr(t)}
	for _, service := range services() {
		c.addr[service], c.health[service] = freeAddr(t), freeAddr(t)
	}
	c.startStores(t)
	for _, service := range services() {
		t.Run(service, func(t *testing.T) {
			j, _ := named[*batchv1.Job](c.rendering, service+"-migrate")
			w := workload{"Job " + j.Name, j, &j.Spec.Template}
			container := w.containers()[0]
			conn := c.connect(t, service)
			// The last table of the migration, which another session has half made, holds it up.
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "CREATE TABLE "+lastTable(t, service)+" (held int)"); err != nil {
				t.Fatal(err)
			}
			p := start(t, c.command(t, w, container, container.Args...))
			watching := c.connect(t, service)
			testkit.Eventually(t, time.Minute, func() bool {
				select {
				case <-p.ended:
					t.Fatalf("it ended before it came to that table: %v\n%s", p.err, &p.log)
				default:
				}
				var waiting int
				err := watching.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
				return err == nil && waiting > 0
			})
			ended := time.Now()
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.ended:
				if p.err == nil {
					t.Errorf("a migration that was not done ended well:\n%s", &p.log)
				}
			case <-time.After(30 * time.Second):
				_ = p.cmd.Process.Kill()
				t.Fatal("it did not end within the 30 s that a pod has")
			}
			t.Logf("it ended after %s: %s", time.Since(ended).Round(time.Millisecond), &p.log)
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := tables(t, watching); left != "" {
				t.Errorf("a migration that was not done left %s", left)
			}
			if out, err := c.command(t, w, container, container.Args...).CombinedOutput(); err != nil {
				t.Fatalf("the next one: %v\n%s", err, out)
			}
			if made := tables(t, watching); !strings.Contains(made, lastTable(t, service)) {
				t.Errorf("the next one made %s", made)
			}
		})
	}
}

// lastTable is the last table that the first migration of a service creates.
func lastTable(t *testing.T, service string) string {
	t.Helper()
	files, err := filepath.Glob("../services/" + service + "/migrations/00001_*.sql")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	up, _, _ := strings.Cut(string(b), "-- +goose Down")
	found := regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`).FindAllStringSubmatch(up, -1)
	if len(found) < 2 {
		t.Fatalf("%s creates %d tables", files[0], len(found))
	}
	return found[len(found)-1][1]
}

// tables lists the tables of a database but those in which goose keeps its state.
func tables(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var names string
	err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(tablename, ' '), '') FROM pg_tables
		WHERE schemaname = 'public' AND tablename NOT LIKE 'goose%'`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// connect connects to a service's database as the service.
func (c cluster) connect(t *testing.T, service string) *pgx.Conn {
	t.Helper()
	for _, s := range all[*corev1.Secret](c.rendering) {
		if strings.HasPrefix(s.Name, service+"-secrets-") {
			conn, err := pgx.Connect(t.Context(), string(s.Data["database-url"]))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return conn
		}
	}
	t.Fatalf("%s has no secrets", service)
	return nil
}
