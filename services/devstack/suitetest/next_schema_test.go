package suitetest

import (
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/testkit"
)

// onEachTable changes every table of every service, as a migration of the next release could.
func (d databases) onEachTable(t *testing.T, change string) (tables int) {
	t.Helper()
	for name, pool := range d {
		rows, err := pool.Query(t.Context(), `SELECT c.oid::regclass::text FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
			AND NOT c.relispartition AND c.relname NOT LIKE 'goose%'`)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for rows.Next() {
			var table string
			if err := rows.Scan(&table); err != nil {
				t.Fatal(err)
			}
			names = append(names, table)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for _, table := range names {
			if _, err := pool.Exec(t.Context(), "ALTER TABLE "+table+" "+change); err != nil {
				t.Fatalf("%s.%s: %v", name, table, err)
			}
		}
		tables += len(names)
	}
	return tables
}

// During a rollout, and after one that is rolled back, replicas of this release serve on the schema of the next one,
// and on this one again. Every method of every service is called before, during and after, each by the same kind of
// caller, who may call it; so is every job. The connections have prepared their statements before.
func TestEveryMethodAndJobWorksWhileTheSchemaOfTheNextReleaseComesAndGoes(t *testing.T) {
	t.Parallel()
	x, mint := startMatrix(t)
	c := dial(t, x.s.Endpoints)
	admin := callersOfAKind(mint)[0]
	// broken reports whether an answer is no answer to what was asked.
	broken := func(err error) bool {
		return slices.Contains([]codes.Code{codes.Internal, codes.Unknown, codes.Unavailable, codes.DataLoss,
			codes.Aborted}, status.Code(err))
	}
	var mu sync.Mutex
	before := map[string]bool{} // methods that are broken without a change too, as without a node
	calls := 0
	call := func(stage string) {
		t.Helper()
		signIn(t, c) // registers and signs in
		everything := func(method) bool { return true }
		x.each(everything, func(m method) {
			header, own := admin.send(t.Context(), t)
			values := targets{}
			for _, some := range []targets{x.values, x.jobOf(m), own} {
				for name, value := range some {
					values[name] = value
				}
			}
			err := m.call(t.Context(), example(t, m, values), header...)
			mu.Lock()
			defer mu.Unlock()
			calls++
			switch name := m.name(x.s); {
			case stage == "before":
				before[name] = broken(err)
			case broken(err) && !before[name]:
				t.Errorf("%s, %s: %v", stage, name, err)
			}
		})
		x.stores.settle(t)
		for name, pool := range x.stores {
			var failed int
			if err := pool.QueryRow(t.Context(),
				`SELECT count(*) FROM job_runs WHERE error <> '' AND state <> 'done'`).Scan(&failed); err != nil {
				t.Fatal(err)
			}
			if failed > 0 {
				t.Errorf("%s: %d runs of jobs of %s failed", stage, failed, name)
			}
		}
	}
	call("before")
	tables := x.stores.onEachTable(t, "ADD COLUMN of_the_next_release text NOT NULL DEFAULT ''")
	call("during")
	x.stores.onEachTable(t, "DROP COLUMN of_the_next_release")
	call("after")
	known := 0
	for _, b := range before {
		if b {
			known++
		}
	}
	if known > 5 {
		t.Errorf("%d methods fail without any change: %v", known, before)
	}
	testkit.Figure(t, "%d calls of %d methods while %d tables got a column and lost it", calls, len(x.methods), tables)
}
