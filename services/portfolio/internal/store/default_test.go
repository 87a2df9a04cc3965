package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// Four replicas that all found no default portfolio create one, because of the unique
// index. In the control, without the index, each creates its own.
func TestReplicasThatHaveAllFoundNoDefaultPortfolio(t *testing.T) {
	for _, tc := range []struct {
		name, prepare string
		rows          int
	}{
		{"make one", "SELECT 1", 1},
		{"make four without the index", "DROP INDEX portfolios_one_default", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, noRedis)
			if _, err := f.db.SQL().ExecContext(t.Context(), tc.prepare); err != nil {
				t.Fatal(err)
			}
			// This lock blocks writers but not readers: all replicas read before the
			// first writes.
			lock, err := f.db.SQL().BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lock.ExecContext(t.Context(), "LOCK TABLE portfolios IN EXCLUSIVE MODE"); err != nil {
				t.Fatal(err)
			}
			owner := uuid.New()
			replicas := []*store.Portfolios{f.portfolios(t), f.portfolios(t), f.portfolios(t), f.portfolios(t)}
			done := make(chan error, 1)
			go func() {
				done <- race(len(replicas), func(i int) error {
					_, err := replicas[i].FindOrCreateDefault(t.Context(), newDefault(owner))
					return err
				})
			}()
			testkit.Eventually(t, 2*time.Second, func() bool {
				return f.count(t, "SELECT count(*) FROM pg_locks WHERE relation = 'portfolios'::regclass AND NOT "+
					"granted") == len(replicas)
			})
			if err := errors.Join(lock.Commit(), <-done); err != nil {
				t.Fatal(err)
			}
			if n := f.count(t, "SELECT count(*) FROM portfolios WHERE owner_id = $1", owner); n != tc.rows {
				t.Errorf("%d default portfolios", n)
			}
		})
	}
}
