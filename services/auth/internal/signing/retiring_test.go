package signing_test

import (
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

// The tokens that a key signed outlive its turn at signing.
func TestAKeyThatRetiresStaysInTheSetAndSignsNoMore(t *testing.T) {
	for _, tc := range []struct {
		state  string
		stands bool
	}{{"RETIRING", true}, {"RETIRED", false}, {"REVOKED", false}} {
		t.Run(tc.state, func(t *testing.T) {
			db := testkit.Postgres(t, migrations.FS)
			r := newRing(t, store.NewKeys(db.DB))
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			old := kidOf(t, r.Sign)
			for _, change := range []string{
				"UPDATE signing_keys SET state = '" + tc.state +
					"', retiring_at = now(), sealed_private = NULL WHERE state = 'ACTIVE'",
				"UPDATE signing_keys SET state = 'ACTIVE' WHERE state = 'STANDBY'",
				"UPDATE key_ring SET epoch = epoch + 1",
			} {
				if _, err := db.SQL().ExecContext(t.Context(), change); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if kid := kidOf(t, r.Sign); kid == old {
				t.Errorf("%s still signs", kid)
			}
			set, ok := r.Published()
			var kids []string
			for _, k := range set.Keys {
				kids = append(kids, k.KeyID)
			}
			if !ok || set.Epoch != 2 || slices.Contains(kids, old) != tc.stands {
				t.Errorf("epoch %d publishes %v; the key that signed was %s", set.Epoch, kids, old)
			}
			if _, err := r.Key(t.Context(), old); (err == nil) != tc.stands {
				t.Errorf("its tokens are verified with %v", err)
			}
		})
	}
}

// kidOf is the key that sign signs with.
func kidOf(t *testing.T, sign func(authn.Claims, time.Duration) (string, time.Time, error)) string {
	t.Helper()
	text, _, err := sign(claims(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := jwt.NewParser().ParseUnverified(text, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Header["kid"].(string)
}
