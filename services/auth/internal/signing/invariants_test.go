package signing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestAKeyIsKnownAfterThePollTheMaxAgeAndTheSkew(t *testing.T) {
	want := 10*time.Second + 5*time.Minute + 30*time.Second
	if got := policy().PropagationTime(); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	now := time.Unix(1_800_000_000, 0)
	keys := []signing.Key{
		{KID: "old", State: signing.Active, PublishedAt: now.Add(-time.Hour), ActivatedAt: now.Add(-time.Hour)},
		{KID: "next", State: signing.Standby, PublishedAt: now},
	}
	early := signing.NextStep(keys, now.Add(want-1), policy(), true)
	if s := early; s.Promote != "" || !s.NextDueAt.Equal(now.Add(want)) {
		t.Errorf("before that: %+v", s)
	}
	if s := signing.NextStep(keys, now.Add(want), policy(), true); s.Promote != "next" || s.PromotedEarly {
		t.Errorf("then: %+v", s)
	}
}

func TestNoTokenLivesLongerThanItsKeyStays(t *testing.T) {
	r, _, c := ready(t)
	_, expires, err := r.Sign(claims(), 24*time.Hour)
	if err != nil || expires.After(c.at.Add(policy().TokenTTL)) {
		t.Errorf("a token lives %s, %v", expires.Sub(c.at), err)
	}
}

func TestAKidIsTheThumbprintOfItsKey(t *testing.T) {
	k, err := signing.Generate(sealer(t, "kek"), issuer, signing.Active)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 7638 section 3 with RFC 8037 section 2: the members in their order.
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` +
		base64.RawURLEncoding.EncodeToString(ed25519.PublicKey(k.Public)) + `"}`))
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); k.KID != want {
		t.Errorf("%s, not %s", k.KID, want)
	}
}

func TestASealedKeyIsBoundToItsIssuerKidAndAlgorithm(t *testing.T) {
	s := sealer(t, "kek")
	k, err := signing.Generate(s, issuer, signing.Active)
	if err != nil {
		t.Fatal(err)
	}
	for aad, opens := range map[string]bool{
		issuer + "|" + k.KID + "|EdDSA":     true, // the control
		issuer + "|" + k.KID + "|ES256":     false,
		issuer + "|" + k.KID:                false,
		issuer + "|other|EdDSA":             false,
		"https://other|" + k.KID + "|EdDSA": false,
		"":                                  false,
	} {
		if _, err := s.Open(k.Sealed, k.Wrapped, []byte(aad)); (err == nil) != opens {
			t.Errorf("%q: %v", aad, err)
		}
	}
}

// overtaken is a store of which one reading is overtaken by another.
type overtaken struct {
	*memory
	overtake func()
}

func (o *overtaken) Load(ctx context.Context, issuer string) (signing.Reading, error) {
	reading, err := o.memory.Load(ctx, issuer)
	if overtake := o.overtake; overtake != nil {
		o.overtake = nil
		overtake()
	}
	return reading, err
}

func TestAReadingThatWasOvertakenShortensNoLease(t *testing.T) {
	c := &clock{at: time.Unix(1_800_000_000, 0)}
	o := &overtaken{memory: &memory{clock: c.now}}
	r := newRing(t, o)
	r.SetNow(c.now)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.overtake = func() {
		c.at = c.at.Add(50 * time.Second)
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(policy().Lease - 1)
	if _, _, err := r.Sign(claims(), time.Minute); err != nil {
		t.Errorf("within the lease of the later reading: %v", err)
	}
}

func TestAKeyIsErasedWhenNoSignerCanUseItAndLeavesTheSetWhenItsTokensAreOver(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	keys := store.NewKeys(db.DB)
	ring := newRing(t, keys)
	if err := ring.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	rotator := rotator(t, keys, policy())
	old := kidOf(t, ring.Sign)
	state := func() (state string) {
		t.Helper()
		err := db.SQL().QueryRowContext(t.Context(),
			`SELECT state || CASE WHEN sealed_private IS NULL AND wrapped_key IS NULL THEN ' erased' ELSE '' END
			FROM signing_keys WHERE kid = $1`, old).Scan(&state)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	// As if each had happened so much earlier.
	step := func(earlier time.Duration, forced bool) {
		t.Helper()
		_, err := db.SQL().ExecContext(t.Context(),
			`UPDATE signing_keys SET published_at = published_at - $1 * interval '1 microsecond',
			retiring_at = retiring_at - $1 * interval '1 microsecond'`, earlier.Microseconds())
		if err != nil {
			t.Fatal(err)
		}
		if err := rotator.Rotate(t.Context(), forced); err != nil {
			t.Fatal(err)
		}
	}
	p := policy()
	for _, tc := range []struct {
		earlier time.Duration
		forced  bool
		want    string
	}{
		{p.PropagationTime(), true, "RETIRING"},
		{p.Lease + p.Skew - 30*time.Second, false, "RETIRING"},
		{30 * time.Second, false, "RETIRING erased"},
		{p.TokenTTL + p.Skew - 30*time.Second, false, "RETIRING erased"},
		{30 * time.Second, false, "RETIRED erased"},
	} {
		if step(tc.earlier, tc.forced); state() != tc.want {
			t.Fatalf("%s, not %s", state(), tc.want)
		}
		if err := ring.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		set, _ := ring.Published()
		listed := slices.ContainsFunc(set.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == old })
		if listed != strings.HasPrefix(tc.want, "RETIRING") {
			t.Errorf("%s, and in the set: %v", tc.want, listed)
		}
	}
}

// lost is a cache that can't be reached.
type lost struct{ signing.Cache }

func (lost) Delete(context.Context, string, int64) error { return errors.New("away") }

// emptied is one that can.
type emptied struct{ signing.Cache }

func (emptied) Delete(context.Context, string, int64) error { return nil }

func TestTheCachedSetsOfOldEpochsAreCountedWhenRemovedAndWhenNot(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	w := newWorld(t, compressed())
	for _, c := range []signing.Cache{lost{}, emptied{}} {
		r := signing.NewRotator(issuer, w.policy, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		r.UseCache(c)
		w.now = w.now.Add(compressed().Period)
		if err := r.Rotate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int64{}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			if sum, ok := one.Data.(metricdata.Sum[int64]); ok {
				got[one.Name] = sum.DataPoints[0].Value
			}
		}
	}
	if got["jwt_jwks_cache_invalidation_errors_total"] != 1 || got["jwt_jwks_cache_invalidations_total"] < 1 ||
		got["jwt_key_rotations_total"] != 2 {
		t.Error(got)
	}
}

// singleSetCache is a cache that holds one set for ever.
type singleSetCache struct {
	signing.Cache
	epoch  int64
	sealed []byte
}

func (h *singleSetCache) Put(_ context.Context, _ string, epoch int64, sealed []byte, _ time.Duration) error {
	h.epoch, h.sealed = epoch, sealed
	return nil
}

func (h *singleSetCache) Newest(context.Context, string, int64) (int64, []byte, error) {
	return h.epoch, h.sealed, nil
}

func TestASetThatWasHeardIsServedForItsAgeNotAnew(t *testing.T) {
	w, _, cut, unavailable := two(t, &singleSetCache{})
	unavailable.err = errors.New("away")
	begun := w.now
	for w.now.Before(begun.Add(2 * w.policy.MaxAge)) {
		_ = cut.Refresh(t.Context()) // which hears the one set
		most := begun.Add(w.policy.MaxAge + w.policy.Poll).Sub(w.now)
		if set, ok := cut.Published(); ok && set.MaxAge > most {
			t.Fatalf("%s after it was read it is served for %s", w.now.Sub(begun), set.MaxAge)
		}
		w.now = w.now.Add(time.Second)
	}
}

func TestEachRuleOfThePolicyIsKeptByItself(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*signing.Policy)
		want  string
	}{
		"no poll": {func(p *signing.Policy) { p.Poll = 0 }, "PURSER_KEYS_SIGNER_LEASE must"},
		"a lease of less than two": {func(p *signing.Policy) { p.Lease = 2*p.Poll - 1 },
			"PURSER_KEYS_SIGNER_LEASE must"},
		"a max-age of less than two": {func(p *signing.Policy) { p.MaxAge = 2*p.Poll - 1 },
			"PURSER_KEYS_JWKS_MAX_AGE must"},
		"more skew than leeway": {func(p *signing.Policy) { p.Skew = 31 * time.Second },
			"PURSER_KEYS_CLOCK_SKEW must"},
		"a skew below zero": {func(p *signing.Policy) { p.Skew = -1 }, "PURSER_KEYS_CLOCK_SKEW must"},
		"a period in which no verifier knows the next key": {
			func(p *signing.Policy) { p.Period = p.PropagationTime() - 1 },
			"PURSER_KEYS_ROTATION_PERIOD must"},
		"tokens that never live": {func(p *signing.Policy) { p.TokenTTL = 0 },
			"PURSER_ACCESS_TTL must"},
	} {
		p := policy()
		tc.spoil(&p)
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
