package signing_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

// hurried is a policy of milliseconds, which no service accepts.
func hurried() signing.Policy {
	ms := time.Millisecond
	return signing.Policy{MaxAge: 20 * ms, Poll: 10 * ms, Lease: 20 * ms, Skew: 5 * ms, Period: 50 * ms,
		TokenTTL: 30 * ms}
}

func rotator(t testing.TB, s signing.RotationStore, p signing.Policy) *signing.Rotator {
	t.Helper()
	return signing.NewRotator(issuer, p, s, sealer(t, "kek"), slog.New(slog.DiscardHandler))
}

// rotated has replicas rotate at once, n times each, and returns how many
// steps were taken.
func rotated(t *testing.T, db *testkit.DB, n int, open func() signing.RotationStore) (epochs int64, failures []error) {
	t.Helper()
	r := signing.NewRing(issuer, policy(), store.NewKeys(db.DB), sealer(t, "kek"), slog.New(slog.DiscardHandler))
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	// So that a step is due at once.
	_, err := db.SQL().ExecContext(t.Context(), `UPDATE signing_keys SET created_at = created_at - interval '1 hour',
		published_at = published_at - interval '1 hour', activated_at = activated_at - interval '1 hour'`)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range replicas {
		rotator := rotator(t, open(), hurried())
		all.Go(func() {
			for range n {
				if err := rotator.Rotate(t.Context(), false); err != nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT epoch FROM key_ring").Scan(&epochs); err != nil {
		t.Fatal(err)
	}
	return epochs, failures
}

func TestOfManyRotatorsOneMakesEachStep(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	ticks := testkit.Size(60, 1000)
	epochs, failures := rotated(t, db, ticks, func() signing.RotationStore { return store.NewKeys(db.DB) })
	if len(failures) > 0 {
		t.Fatal(failures[0])
	}
	var active, standby, young, keys, promoted int
	err := db.SQL().QueryRowContext(t.Context(), fmt.Sprintf(`
		SELECT count(*) FILTER (WHERE state = 'ACTIVE'), count(*) FILTER (WHERE state = 'STANDBY'),
			count(*) FILTER (WHERE published_at <> created_at
				OR activated_at <> published_at AND activated_at < published_at + interval '%d ms'),
			count(*), count(activated_at) FROM signing_keys`, hurried().PropagationTime().Milliseconds())).
		Scan(&active, &standby, &young, &keys, &promoted)
	if err != nil {
		t.Fatal(err)
	}
	if active != 1 || standby != 1 || young != 0 || keys != promoted+1 {
		t.Errorf("%d active, %d standing by, %d promoted too young, %d keys of which %d were active", active, standby,
			young, keys, promoted)
	}
	if epochs < 2 {
		t.Errorf("%d epochs: nothing rotated", epochs)
	}
	testkit.Figure(t, "%d replicas × %d ticks: %d epochs, %d keys active in turn, never two, none before its time",
		replicas, ticks, epochs, promoted)
}

// heedless applies a step to whatever epoch there is, the first one not before
// two replicas want to.
type heedless struct {
	*store.Keys
	first, second *sync.Once
	both          chan struct{}
}

func (h heedless) Apply(ctx context.Context, issuer string, _ int64, s signing.Step, fresh *signing.Key,
	p signing.Policy) error {
	alone := false
	h.first.Do(func() { alone = true })
	if !alone {
		h.second.Do(func() { close(h.both) })
	}
	<-h.both
	for {
		reading, err := h.Load(ctx, issuer)
		if err != nil {
			return err
		}
		if err := h.Keys.Apply(ctx, issuer, reading.Epoch, s, fresh, p); !errors.Is(err, signing.ErrEpochChanged) {
			return err
		}
	}
}

func TestWithoutTheEpochOneStepIsMadeTwice(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	h := heedless{store.NewKeys(db.DB), &sync.Once{}, &sync.Once{}, make(chan struct{})}
	_, failures := rotated(t, db, 60, func() signing.RotationStore { return h })
	if len(failures) == 0 {
		t.Fatal("no two replicas made the same step: the epoch protects from nothing")
	}
	for _, err := range failures {
		if errors.Is(err, signing.ErrEpochChanged) {
			t.Fatal(err)
		}
	}
}

func TestARevokedKeyLeavesTheSetAtOnceAndTheNextSigns(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	ring := newRing(t, keys)
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	rotator := rotator(t, keys, policy())
	old := kidOf(t, ring.Sign)
	if err := rotator.Rotate(t.Context(), true); reason(err) != "KEY_TOO_YOUNG" {
		t.Fatalf("a key was promoted that not every verifier can know: %v", err)
	}
	if err := rotator.Revoke(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := kidOf(t, ring.Sign); now == old {
		t.Error("the revoked key signs")
	}
	if _, err := ring.Key(t.Context(), old); err == nil {
		t.Error("the revoked key's tokens are good")
	}
	var state string
	var early int
	var erased bool
	err := db.SQL().QueryRowContext(t.Context(), `SELECT state, sealed_private IS NULL AND wrapped_key IS NULL,
		(SELECT count(*) FROM signing_keys WHERE promoted_early) FROM signing_keys
		WHERE kid = $1`, old).Scan(&state, &erased, &early)
	if err != nil || state != "REVOKED" || !erased || early != 1 {
		t.Error(state, erased, early, err)
	}
	if err := rotator.Revoke(t.Context(), "no such key"); reason(err) != "NOT_FOUND" {
		t.Error(err)
	}
	before, _ := keys.Load(t.Context(), issuer)
	if err := rotator.Revoke(t.Context(), old); err != nil {
		t.Error(err)
	}
	if after, err := keys.Load(t.Context(), issuer); err != nil || after.Epoch != before.Epoch {
		t.Error("revoking twice raises the epoch", after.Epoch, err)
	}
	if got := recorded(t, db); got != "signing_key.revoked  "+old+", signing_key.rotated PROMOTED_EARLY "+kidOf(t,
		ring.Sign) {
		t.Error("recorded: ", got)
	}
	set, _ := ring.Published()
	if len(set.Keys) != 2 {
		t.Errorf("%d keys published, not an active one and a standby", len(set.Keys))
	}
}

// recorded are the events of the keys, in their order.
func recorded(t *testing.T, db *testkit.DB) (events string) {
	t.Helper()
	err := db.SQL().QueryRowContext(t.Context(),
		`SELECT coalesce(string_agg(type || ' ' || reason || ' ' || object, ', ' ORDER BY id), '')
		FROM audit_events WHERE type LIKE 'signing_key.%'`).Scan(&events)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestARotationThatWasAskedForIsRecordedWithItsTransaction(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	ring := newRing(t, keys)
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	older := func() {
		_, err := db.SQL().ExecContext(t.Context(),
			"UPDATE signing_keys SET created_at = created_at - interval '1 hour', published_at = published_at - "+
				"interval '1 hour'")
		if err != nil {
			t.Fatal(err)
		}
	}
	older()
	rotator := rotator(t, keys, policy())
	if err := rotator.Rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	kid := kidOf(t, ring.Sign)
	if got := recorded(t, db); got != "signing_key.rotated FORCED "+kid {
		t.Error("recorded: ", got)
	}
	older()
	if _, err := db.SQL().ExecContext(t.Context(),
		"ALTER TABLE audit_events ADD CHECK (type <> 'signing_key.rotated')  NOT VALID"); err != nil {
		t.Fatal(err)
	}
	if err := rotator.Rotate(t.Context(), true); err == nil {
		t.Error("a rotation that can't be recorded was made")
	}
	if err := ring.Refresh(t.Context()); err != nil || kidOf(t, ring.Sign) != kid {
		t.Error("and signs", err)
	}
}

func TestARingOfWhichEveryKeyWasRevokedStartsAnew(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	ring := newRing(t, keys)
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	set, _ := ring.Published()
	for _, k := range set.Keys { // and who did it died before the rotation
		if err := keys.RevokeKey(t.Context(), issuer, k.KeyID); err != nil {
			t.Fatal(err)
		}
	}
	if err := newRing(t, keys).Refresh(t.Context()); err == nil {
		t.Error("a ring without keys was taken")
	}
	if err := rotator(t, keys, policy()).Rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if kidOf(t, ring.Sign) == k.KeyID {
			t.Error("a revoked key signs")
		}
	}
}

func TestAPromotionBeforeItsTimeIsRefusedByTheDatabase(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	if err := newRing(t, keys).Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	reading, err := keys.Load(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	step := signing.Step{}
	for _, k := range reading.Keys {
		if k.State == signing.Active {
			step.Demote = k.KID
		} else {
			step.Promote = k.KID
		}
	}
	if err := keys.Apply(t.Context(), issuer, reading.Epoch, step, nil, policy()); err == nil {
		t.Fatal("it was promoted")
	}
	after, err := keys.Load(t.Context(), issuer)
	if err != nil || after.Epoch != reading.Epoch {
		t.Fatal("half a step was made", after.Epoch, err)
	}
}
