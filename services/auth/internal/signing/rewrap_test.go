package signing_test

import (
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
	"github.com/purserhq/purser/services/internal/seal"
)

// keks is a sealer under the first secret that also reads the others.
func keks(t *testing.T, current string, previous ...string) *seal.Sealer {
	t.Helper()
	var others [][]byte
	for _, p := range previous {
		kek := sha256.Sum256([]byte(p))
		others = append(others, kek[:])
	}
	kek := sha256.Sum256([]byte(current))
	s, err := seal.New(kek[:], others...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Replicas with the old, both and the new key-encryption key run side by side
// through a rotation of it.
func TestAKeyEncryptionKeyIsReplacedWhileReplicasSign(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	signs := func(s *seal.Sealer) bool {
		ring := signing.NewRing(issuer, policy(), keys, s, slog.New(slog.DiscardHandler))
		if err := ring.Refresh(t.Context()); err != nil {
			return false
		}
		_, _, err := ring.Sign(claims(), time.Minute)
		return err == nil
	}
	old, readsNew, both, fresh := keks(t, "old"), keks(t, "old", "new"), keks(t, "new", "old"), keks(t, "new")
	check := func(when string, want map[*seal.Sealer]bool) {
		t.Helper()
		for name, s := range map[string]*seal.Sealer{"old": old, "old that reads new": readsNew,
			"new that reads old": both, "new": fresh} {
			if signs(s) != want[s] {
				t.Errorf("%s: a replica with %s signs: %v", when, name, signs(s))
			}
		}
	}
	if !signs(old) { // the first boot
		t.Fatal("nothing signs")
	}
	// the control: a new one alone can't
	check("before", map[*seal.Sealer]bool{old: true, readsNew: true, both: true})
	before, err := keys.List(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	rewrap := func() int {
		list, err := keys.List(t.Context(), issuer)
		if err != nil {
			t.Fatal(err)
		}
		n, err := signing.Rewrap(t.Context(), both, issuer, list, keys)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rewrap(); n != 2 {
		t.Errorf("%d keys were rewrapped", n)
	}
	// the control: an old one alone can't
	check("after", map[*seal.Sealer]bool{readsNew: true, both: true, fresh: true})
	if n := rewrap(); n != 0 {
		t.Errorf("%d keys were rewrapped again", n)
	}
	after, err := keys.List(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range after {
		if string(k.Sealed) != string(before[i].Sealed) || string(k.Wrapped) == string(before[i].Wrapped) ||
			k.KID != before[i].KID {
			t.Errorf("key %d: more, or less, than its data key was wrapped anew", i)
		}
		if current, err := signing.IsWrappedByCurrentKey(both, issuer, k); !current || err != nil {
			t.Error(current, err)
		}
		if _, err := signing.IsWrappedByCurrentKey(both, issuer+"/", k); err == nil {
			t.Error("a row of another issuer opens")
		}
	}
	var epoch, recorded int
	if err := db.SQL().QueryRowContext(t.Context(),
		`SELECT epoch, (SELECT count(*) FROM audit_events WHERE type = 'signing_key.rewrapped')
		FROM key_ring`).Scan(&epoch, &recorded); err != nil || epoch != 1 || recorded != 2 {
		t.Error(epoch, recorded, err)
	}
	if _, err := signing.Rewrap(t.Context(), keks(t, "third"), issuer, after, keys); err == nil {
		t.Error("rows under a key-encryption key that is not known were taken for done")
	}
}

func TestAKeyThatIsErasedWhileItIsRewrappedStaysErased(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	ring := signing.NewRing(issuer, policy(), keys, keks(t, "old"), slog.New(slog.DiscardHandler))
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := keys.List(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if err := keys.RevokeKey(t.Context(), issuer, k.KID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := signing.Rewrap(t.Context(), keks(t, "new", "old"), issuer, list, keys); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := db.SQL().QueryRowContext(t.Context(),
		"SELECT count(wrapped_key) FROM signing_keys").Scan(&left); err != nil || left != 0 {
		t.Error(left, err)
	}
}

func TestEverySecondFactorIsRewrappedUnlessItChangesMeanwhile(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	for _, statement := range []string{
		"INSERT INTO users (id, created_at) SELECT gen_random_uuid(), now() FROM generate_series(1, 1200)",
		"INSERT INTO second_factors SELECT id, 'sealed', 'old', now(), NULL, 0, 0, NULL, '[]' FROM users",
	} {
		if _, err := db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	changed := false
	n, err := store.NewSecondFactors(db.DB).Rewrap(t.Context(), func(user uuid.UUID, wrapped []byte) ([]byte, error) {
		if !changed { // enrolled anew
			changed = true
			if _, err := db.SQL().ExecContext(t.Context(),
				"UPDATE second_factors SET wrapped_key = 'newer' WHERE user_id = $1", user); err != nil {
				return nil, err
			}
		}
		return []byte("new"), nil
	})
	var of, newer int
	e := db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FILTER (WHERE wrapped_key = 'new'), count(*) FILTER (WHERE wrapped_key = 'newer') FROM "+
			"second_factors").Scan(&of, &newer)
	if n != 1199 || of != 1199 || newer != 1 || err != nil || e != nil {
		t.Error(n, of, newer, err, e)
	}
}
