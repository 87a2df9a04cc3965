package signing_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

// sound is the ring after one bootstrap.
const sound = "epoch 1: 1 ACTIVE 1 STANDBY of 2"

func ring(t *testing.T, db *testkit.DB) string {
	t.Helper()
	var epoch, active, published, all int
	err := db.SQL().QueryRowContext(t.Context(), `
		SELECT max(epoch), count(*) FILTER (WHERE state = 'ACTIVE'),
			count(*) FILTER (WHERE state = 'STANDBY'), count(*)
		FROM key_ring JOIN signing_keys USING (issuer)`).Scan(&epoch, &active, &published, &all)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("epoch %d: %d ACTIVE %d STANDBY of %d", epoch, active, published, all)
}

// unlocked bootstraps without a lock on the ring's row and without a look at
// its epoch, once everybody has found the ring empty.
type unlocked struct {
	*store.Keys
	db    *testkit.DB
	empty *sync.WaitGroup
}

func (u *unlocked) Bootstrap(ctx context.Context, issuer string, first []signing.Key) error {
	u.empty.Done()
	u.empty.Wait()
	if _, err := u.db.SQL().ExecContext(ctx, "INSERT INTO key_ring VALUES ($1, 1) ON CONFLICT DO NOTHING",
		issuer); err != nil {
		return err
	}
	for _, k := range first {
		_, err := u.db.SQL().ExecContext(ctx, `
			INSERT INTO signing_keys
				(kid, issuer, algorithm, state, public_key, sealed_private, wrapped_key, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, now())`,
			k.KID, issuer, k.Algorithm, string(k.State), k.Public, k.Sealed, k.Wrapped)
		if err != nil {
			return err
		}
	}
	return nil
}

// The control: what the lock and the epoch prevent.
func TestWithoutTheLockEveryReplicaMakesKeysOfItsOwn(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare string
		broken  func(failures []error, ring string) bool
	}{
		{
			"with the index of one active key the others fail to start", "SELECT 1",
			func(failures []error, ring string) bool { return len(failures) == replicas-1 && ring == sound },
		},
		{
			"without it several keys are active", "DROP INDEX signing_keys_one_active",
			func(failures []error, ring string) bool { return len(failures) == 0 && ring != sound },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := testkit.Postgres(t, migrations.FS)
			if _, err := db.SQL().ExecContext(t.Context(), tc.prepare); err != nil {
				t.Fatal(err)
			}
			var empty sync.WaitGroup
			empty.Add(replicas)
			kids, failures := start(t, func() signing.Store {
				return &unlocked{Keys: store.NewKeys(db.DB), db: db,
					empty: &empty}
			})
			if got := ring(t, db); !tc.broken(failures, got) {
				t.Errorf("%s, %d kids, failures %v: the race proves nothing", got, len(kids), failures)
			}
		})
	}
}
