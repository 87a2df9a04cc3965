package signing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
	"github.com/purserhq/purser/services/internal/seal"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const issuer = "https://auth.example"

func policy() signing.Policy {
	return signing.Policy{
		MaxAge: 5 * time.Minute, Poll: 10 * time.Second, Lease: time.Minute,
		Skew: 30 * time.Second, Period: 24 * time.Hour, Cron: "*/5 * * * *", TokenTTL: 15 * time.Minute,
	}
}

func sealer(t testing.TB, secret string) *seal.Sealer {
	t.Helper()
	kek := sha256.Sum256([]byte(secret))
	s, err := seal.New(kek[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRing(t testing.TB, s signing.Store) *signing.Ring {
	t.Helper()
	return signing.NewRing(issuer, policy(), s, sealer(t, "kek"), slog.New(slog.DiscardHandler))
}

// memory is a store that a test fills; unavailable makes it fail.
type memory struct {
	epoch       int64
	keys        []signing.Key
	unavailable error
	clock       func() time.Time // time.Now
}

func (m *memory) Bootstrap(_ context.Context, _ string, first []signing.Key) error {
	if m.epoch == 0 {
		m.epoch, m.keys = 1, first
	}
	return m.unavailable
}

func (m *memory) Load(context.Context, string) (signing.Reading, error) {
	now := time.Now
	if m.clock != nil {
		now = m.clock
	}
	return signing.Reading{Epoch: m.epoch, Keys: m.keys, Now: now()}, m.unavailable
}

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func claims() authn.Claims {
	c := authn.Claims{SessionID: uuid.NewString(), Permissions: []string{"wallet:read"}}
	c.Subject = uuid.NewString()
	return c
}

// ready is a ring that has read its store at a time which the test moves.
func ready(t *testing.T) (*signing.Ring, *memory, *clock) {
	t.Helper()
	m, c := &memory{}, &clock{at: time.Now().Truncate(time.Second)}
	m.clock = c.now
	r := newRing(t, m)
	r.SetNow(c.now)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, m, c
}

func TestARingThatWasNeverReadNeitherSignsNorPublishes(t *testing.T) {
	m := &memory{unavailable: errors.New("away")}
	r := newRing(t, m)
	if err := r.Refresh(t.Context()); err == nil {
		t.Fatal("a store that is unavailable was read")
	}
	if _, _, err := r.Sign(claims(), time.Minute); reason(err) != "SIGNING_UNAVAILABLE" {
		t.Errorf("signing answered %v", err)
	}
	if _, ok := r.Published(); ok {
		t.Error("a set is published")
	}
	if _, err := r.Key(t.Context(), "kid"); reason(err) != "KEYS_UNAVAILABLE" {
		t.Errorf("a key was looked up: %v", err)
	}
}

func reason(err error) string {
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	return ""
}

func TestASignerRefusesPastItsLease(t *testing.T) {
	r, m, c := ready(t)
	c.at = c.at.Add(time.Minute - time.Nanosecond)
	if _, _, err := r.Sign(claims(), time.Minute); err != nil {
		t.Fatalf("within the lease: %v", err)
	}
	c.at = c.at.Add(time.Nanosecond)
	if _, _, err := r.Sign(claims(), time.Minute); reason(err) != "SIGNING_UNAVAILABLE" {
		t.Fatalf("at its end: %v", err)
	}
	m.unavailable = errors.New("away")
	if err := r.Refresh(t.Context()); err == nil {
		t.Fatal("read a store that is away")
	}
	if _, _, err := r.Sign(claims(), time.Minute); err == nil {
		t.Error("a failed reading extended the lease")
	}
	m.unavailable = nil
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Sign(claims(), time.Minute); err != nil {
		t.Errorf("after reading anew: %v", err)
	}
}

func TestTheStatedMaxAgeFallsWithTheAgeOfWhatIsKnown(t *testing.T) {
	r, _, c := ready(t)
	read := c.at
	for _, tc := range []struct {
		name string
		age  time.Duration
		want time.Duration // 0 for no set
	}{
		{"just read", 0, 5 * time.Minute},
		{"the clock was set back", -time.Hour, 5 * time.Minute},
		{"within the poll", 10 * time.Second, 5 * time.Minute},
		{"a minute past the poll", 70 * time.Second, 4 * time.Minute},
		{"a second before the end", 309 * time.Second, time.Second},
		{"half a second before the end", 309*time.Second + 500*time.Millisecond, 0},
		{"at the end", 310 * time.Second, 0},
		{"a day on", 24 * time.Hour, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.at = read.Add(tc.age)
			set, ok := r.Published()
			if ok != (tc.want > 0) || set.MaxAge != tc.want {
				t.Errorf("max-age %s, %v; want %s", set.MaxAge, ok, tc.want)
			}
			if ok && len(set.Keys) != 2 {
				t.Errorf("%d keys", len(set.Keys))
			}
		})
	}
}

func TestARingNeverGoesBackAnEpoch(t *testing.T) {
	r, m, c := ready(t)
	old := *m
	m.epoch, m.keys = 2, nil
	for _, state := range []signing.State{signing.Active, signing.Standby} {
		k, err := signing.Generate(sealer(t, "kek"), issuer, state)
		if err != nil {
			t.Fatal(err)
		}
		m.keys = append(m.keys, k)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer, _ := r.Published()
	*m = old // a replica that lags behind
	c.at = c.at.Add(time.Second)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if set, _ := r.Published(); set.Epoch != 2 || set.ETag != newer.ETag {
		t.Errorf("epoch %d is published after 2", set.Epoch)
	}
}

func TestAnEmptySetIsNeverServed(t *testing.T) {
	r, m, _ := ready(t)
	m.epoch, m.keys = 3, nil
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("an empty ring was taken")
	}
	if set, ok := r.Published(); !ok || len(set.Keys) != 2 {
		t.Error("the set that was known is gone")
	}
}

func TestKeysOfADatabaseThatWasTamperedWithDoNotSign(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(keys []signing.Key)
	}{
		{"two rows with their private keys swapped", func(k []signing.Key) {
			k[0].Sealed, k[1].Sealed = k[1].Sealed, k[0].Sealed
			k[0].Wrapped, k[1].Wrapped = k[1].Wrapped, k[0].Wrapped
		}},
		{"two rows with only the sealed bytes swapped",
			func(k []signing.Key) { k[0].Sealed, k[1].Sealed = k[1].Sealed, k[0].Sealed }},
		{"two rows with their public keys swapped",
			func(k []signing.Key) { k[0].Public, k[1].Public = k[1].Public, k[0].Public }},
		{"a row under another kid", func(k []signing.Key) { k[0].KID = k[1].KID }},
		{"a row of another algorithm", func(k []signing.Key) { k[0].Algorithm = "ES256" }},
		{"one bit of the sealed key", func(k []signing.Key) { k[0].Sealed[len(k[0].Sealed)/2] ^= 1 }},
		{"one bit of the wrapped key", func(k []signing.Key) { k[0].Wrapped[0] ^= 1 }},
		{"no private key", func(k []signing.Key) { k[0].Sealed, k[0].Wrapped = nil, nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, m, _ := ready(t)
			tc.change(m.keys)
			fresh := newRing(t, m)
			if err := fresh.Refresh(t.Context()); err == nil {
				t.Error("the ring was taken")
			}
			if _, _, err := fresh.Sign(claims(), time.Minute); err == nil {
				t.Error("and signs")
			}
		})
	}
}

func TestASealedKeyOpensWithItsOwnKEKAndAADOnly(t *testing.T) {
	k, err := signing.Generate(sealer(t, "kek"), issuer, signing.Active)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, kek, issuer string
		opens             bool
	}{
		{"its own", "kek", issuer, true}, // the control
		{"another key-encryption key", "other", issuer, false},
		{"another issuer", "kek", issuer + "/", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := k.Private(sealer(t, tc.kek), tc.issuer); (err == nil) != tc.opens {
				t.Errorf("opening gives %v", err)
			}
		})
	}
	if bytes.Contains(k.Sealed, k.Public) {
		t.Error("the sealed bytes show the key")
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := seal.New(make([]byte, n)); err == nil {
			t.Errorf("a key-encryption key of %d bytes was taken", n)
		}
	}
}

func FuzzSealedBytesFromTheDatabase(f *testing.F) {
	s := sealer(f, "kek")
	k, err := signing.Generate(s, issuer, signing.Active)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Sealed, k.Wrapped)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, wrapped []byte) {
		if bytes.Equal(sealed, k.Sealed) && bytes.Equal(wrapped, k.Wrapped) {
			return
		}
		if _, err := s.Open(sealed, wrapped, []byte(issuer+"|"+k.KID+"|"+k.Algorithm)); err == nil {
			t.Error("forged bytes open")
		}
	})
}

func TestPolicy(t *testing.T) {
	for _, tc := range []struct {
		name string
		p    signing.Policy
		want string
	}{
		{"the policy of the tests is fine", policy(), ""},
		{"a lease of one poll is refused", signing.Policy{MaxAge: time.Minute, Poll: 10 * time.Second,
			Lease: 10 * time.Second}, "SIGNER_LEASE"},
		{"no poll is refused", signing.Policy{MaxAge: time.Minute, Lease: time.Minute}, "SIGNER_LEASE"},
		{"a max-age of one poll is refused", signing.Policy{MaxAge: 10 * time.Second, Poll: 10 * time.Second,
			Lease: time.Minute}, "JWKS_MAX_AGE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.p.Validate()
			if tc.want == "" && err != nil ||
				tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Validate() = %v, want %q", err, tc.want)
			}
		})
	}
}

const replicas = 8

// start has eight replicas bootstrap one issuer at once and returns the kids
// that they sign with.
func start(t *testing.T, s func() signing.Store) (kids map[string]bool, failures []error) {
	t.Helper()
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	kids = map[string]bool{}
	for range replicas {
		r := newRing(t, s())
		all.Go(func() {
			kid, err := firstSignature(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, err)
				return
			}
			kids[kid] = true
		})
	}
	all.Wait()
	return kids, failures
}

func firstSignature(ctx context.Context, r *signing.Ring) (kid string, err error) {
	if err := r.Refresh(ctx); err != nil {
		return "", err
	}
	token, _, err := r.Sign(claims(), time.Minute)
	if err != nil {
		return "", err
	}
	header, _, _ := strings.Cut(token, ".")
	return header, nil // holds nothing but alg, typ and kid
}

func TestEightReplicasThatStartTogetherMakeOneRing(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	kids, failures := start(t, func() signing.Store { return store.NewKeys(db.DB) })
	if len(failures) > 0 || len(kids) != 1 {
		t.Fatalf("%d kids sign; failures: %v", len(kids), failures)
	}
	if got := ring(t, db); got != sound {
		t.Error(got)
	}
	// A second boot changes nothing.
	again, _ := start(t, func() signing.Store { return store.NewKeys(db.DB) })
	for kid := range again {
		if !kids[kid] || len(again) != 1 {
			t.Error("a later boot signs with another key")
		}
	}
}
