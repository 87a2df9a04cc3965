package suitetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/purserhq/purser/pkg/testkit"
)

// digest is the content of each table of the suite's databases, hashed, by database and table.
type digest map[string]string

// notCompared are the tables that refused calls may write to, or that the services write to by themselves.
func notCompared() map[string]string {
	return map[string]string{
		"audit_events":        "refusals are recorded",
		"audit_personal":      "refusals are recorded",
		"audit_seals":         "a job seals events",
		"job_schedules":       "jobs run by themselves",
		"job_runs":            "jobs run by themselves; the test compares the triggered ones",
		"cache_invalidations": "a loop empties it",
		"erased_owners":       "a job erases what deleted users had",
		"erasure_cursor":      "a job erases what deleted users had",
		"erasure_reports":     "a job erases what deleted users had",
		"alert_owners":        "a loop looks at the rules of owners",
		"prices":              "a loop looks at the rules of owners, and has present prices read",
	}
}

// comparedRows are the queries of tables of which only some rows or columns are compared.
func comparedRows() map[string]string {
	return map[string]string{
		"mails":    "SELECT id, user_id, kind, queued_at FROM mails", // the others change when one is sent
		"job_runs": "SELECT job, scheduled_at FROM job_runs WHERE manual",
		// Changes are numbered in the background, and a job erases those of deleted users.
		"changes": `SELECT owner_id, id, kind, subject_id FROM changes
			WHERE owner_id NOT IN (SELECT owner_id FROM erased_owners)`,
		"change_feed": "SELECT id, trimmed FROM change_feed",
	}
}

// databases has a connection to each database of a suite.
type databases map[string]*pgxpool.Pool

func connect(t *testing.T, url func(database string) string) databases {
	t.Helper()
	all := databases{}
	for _, name := range []string{"auth", "wallet", "portfolio"} {
		pool, err := pgxpool.New(t.Context(), url("purser_"+name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		all[name] = pool
	}
	return all
}

// settle waits until no job runs or is about to because it was triggered, and no alert rules are evaluated or about to
// be: an evaluation stores what it saw, and alerts. Owners are evaluated again an hour later; see startMatrix.
func (d databases) settle(t *testing.T) {
	t.Helper()
	busy := map[string]string{
		"portfolio": " OR EXISTS (SELECT FROM alert_owners WHERE due_at < now() + interval '5 minutes')",
	}
	for name, pool := range d {
		testkit.Eventually(t, time.Minute, func() bool {
			var isBusy bool
			err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM job_runs
				WHERE state = 'running' OR state = 'due' AND manual)`+busy[name]).Scan(&isBusy)
			return err == nil && !isBusy
		})
	}
}

// digest hashes every table, once the jobs that were triggered before have ended.
func (d databases) digest(ctx context.Context, t *testing.T) digest {
	t.Helper()
	d.settle(t)
	all := digest{}
	for name, pool := range d {
		rows, err := pool.Query(ctx, `SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
			AND relnamespace = 'public'::regnamespace ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for rows.Next() {
			var table string
			if err := rows.Scan(&table); err != nil {
				t.Fatal(err)
			}
			query, some := comparedRows()[table]
			if _, skip := notCompared()[table]; skip && !some {
				continue
			}
			if !some {
				query = "SELECT * FROM " + table
			}
			parts = append(parts, fmt.Sprintf(`SELECT '%s',
				coalesce(md5(string_agg(r::text, ' ' ORDER BY r::text)), '') FROM (%s) r`, table, query))
		}
		if err := rows.Err(); err != nil || len(parts) == 0 {
			t.Fatalf("%s: %d tables, %v", name, len(parts), err)
		}
		rows, err = pool.Query(ctx, strings.Join(parts, " UNION ALL "))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var table, hash string
			if err := rows.Scan(&table, &hash); err != nil {
				t.Fatal(err)
			}
			all[name+"."+table] = hash
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// changed names the tables that differ.
func (d digest) changed(after digest) (tables []string) {
	for _, table := range slices.Sorted(maps.Keys(after)) {
		if d[table] != after[table] {
			tables = append(tables, table)
		}
	}
	return tables
}
