package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/totp"
	"github.com/purserhq/purser/services/auth/migrations"
)

// A second factor that is used while it is rewrapped: what was read of it
// before is not written back over what it is wrapped with now, or it would be
// lost with the key-encryption key.
func TestASecondFactorThatIsUsedWhileItIsRewrappedStaysRewrapped(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	user := uuid.New()
	for _, statement := range []string{
		"INSERT INTO users (id, created_at) VALUES ($1, now())",
		"INSERT INTO second_factors VALUES ($1, 'sealed', 'old', now(), now(), 0, 0, NULL, '[]')",
	} {
		if _, err := db.SQL().ExecContext(t.Context(), statement, user); err != nil {
			t.Fatal(err)
		}
	}
	factors, done := NewSecondFactors(db.DB), make(chan error, 1)
	rewrap := func(ctx context.Context) {
		_, err := factors.Rewrap(ctx, func(uuid.UUID, []byte) ([]byte, error) { return []byte("new"), nil })
		done <- err
	}
	err := factors.Change(t.Context(), user, func(f totp.Factor, _ time.Time) (totp.Factor, audit.Event, error) {
		go rewrap(t.Context())
		testkit.Eventually(t, time.Minute, func() bool {
			var waiting int
			err := db.SQL().QueryRowContext(t.Context(),
				"SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting)
			return err != nil || waiting > 0 || len(done) == 1
		})
		f.LastStep++
		return f, audit.Event{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var wrapped string
	var step int
	err = db.SQL().QueryRowContext(t.Context(), "SELECT wrapped_key, last_step FROM second_factors").Scan(&wrapped,
		&step)
	if err != nil || wrapped != "new" || step != 1 {
		t.Error(wrapped, step, err)
	}
}
