package signing_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/internal/web"
	"github.com/purserhq/purser/services/auth/migrations"
)

// brief is a policy of seconds of real time, with one to spare for a busy
// machine.
func brief() signing.Policy {
	return signing.Policy{
		MaxAge: 2 * time.Second, Poll: 100 * time.Millisecond, Lease: 1500 * time.Millisecond, Skew: time.Second,
		Period: 3200 * time.Millisecond, TokenTTL: 8 * time.Second,
	}
}

// suite is signers, rotators and verifiers on servers of their own.
type suite struct {
	t        *testing.T
	postgres *pgserver.Server
	redis    *redisserver.Server
	db       *postgres.DB
	keys     *store.Keys
	signers  []*lessee
	strike   atomic.Pointer[func()] // between a rotation's commit and its look at Redis
	down     atomic.Bool
	all      sync.WaitGroup

	mu     sync.Mutex
	tokens []signed

	verified, whileDown, failed atomic.Int64
	seen                        []sync.Map // kid by verifier
}

// lessee is a signer of which it is known when its lease ends, within the
// moment that a reading takes to begin.
type lessee struct {
	signing.Store
	*suite
	ring *signing.Ring

	mu             sync.Mutex
	from, to       time.Time
	signed, denied int
}

// Load notes when a reading began at the latest, before it counts.
func (l *lessee) Load(ctx context.Context, issuer string) (signing.Reading, error) {
	begun := time.Now()
	reading, err := l.Store.Load(ctx, issuer)
	if err == nil {
		l.mu.Lock()
		l.to = begun
		l.mu.Unlock()
	}
	return reading, err
}

// poll reads the ring as Ring.Keep does, and notes when that began at the
// earliest, once it counts.
func (l *lessee) poll(ctx context.Context) {
	begun := time.Now()
	if l.ring.Refresh(ctx) == nil {
		l.mu.Lock()
		l.from = begun
		l.mu.Unlock()
	}
}

// sign signs a token, and checks that it is refused past the lease and not
// before.
func (l *lessee) sign(ctx context.Context) {
	l.mu.Lock()
	from := l.from
	l.mu.Unlock()
	before := time.Now()
	token, expires, err := l.ring.Sign(claims(), brief().TokenTTL)
	after := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch lease := brief().Lease; {
	case ctx.Err() != nil:
	case err == nil && before.After(l.to.Add(lease)):
		l.t.Errorf("signed %s past the lease", before.Sub(l.to.Add(lease)))
	case err == nil:
		l.signed++
		l.suite.mu.Lock()
		l.tokens = append(l.tokens, signed{token, expires})
		l.suite.mu.Unlock()
	case reason(err) != "SIGNING_UNAVAILABLE":
		l.t.Error(err)
	case after.Before(from.Add(lease)):
		l.t.Errorf("refused %s before the lease ends", from.Add(lease).Sub(after))
	default:
		l.denied++
	}
}

func (l *lessee) denials() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.denied
}

// every calls do until the test ends, with a pause between.
func (s *suite) every(ctx context.Context, pause time.Duration, do func(context.Context)) {
	s.all.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do(ctx)
			}
		}
	})
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{t: t, postgres: testkit.OwnPostgres(t), redis: testkit.Redis(t), seen: make([]sync.Map, 6)}
	log := slog.New(slog.DiscardHandler)
	var err error
	if s.db, err = postgres.Open(t.Context(),
		postgres.Options{URL: s.postgres.URL("postgres"), Name: "test", Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	if err := postgres.Migrate(t.Context(), s.db, migrations.FS); err != nil {
		t.Fatal(err)
	}
	s.keys = store.NewKeys(s.db)
	sets := store.NewKeySetCache(redisClient(t, s.redis.URL()))
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); s.all.Wait() }) // before what they use is closed
	for range 3 {
		l := &lessee{Store: s.keys, suite: s}
		l.ring = signing.NewRing(issuer, brief(), l, sealer(t, "kek"), log)
		l.ring.UseCache(sets)
		if l.poll(ctx); l.from.IsZero() {
			t.Fatal("the ring can't be read")
		}
		s.signers = append(s.signers, l)
	}
	// Nobody has fetched a set yet, so a rotation may be due at once.
	_, err = s.db.SQL().ExecContext(ctx, `UPDATE signing_keys SET created_at = created_at - interval '1 hour',
		published_at = published_at - interval '1 hour', activated_at = activated_at - interval '1 hour'`)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range s.signers {
		s.every(ctx, brief().Poll, l.poll)
		s.every(ctx, 20*time.Millisecond, l.sign)
		server := httptest.NewServer(web.Handler(issuer, issuer, l.ring))
		t.Cleanup(server.Close)
		remote := authn.NewRemoteKeys(server.URL+"/.well-known/jwks.json", log)
		t.Cleanup(func() { _ = remote.Close() })
		s.verify(ctx, i, remote)
		s.verify(ctx, 3+i, &stock{ring: l.ring})
	}
	for range 2 {
		r := signing.NewRotator(issuer, brief(), s.keys, sealer(t, "kek"), log)
		r.UseCache(sets)
		r.OnChange(func() {
			if strike := s.strike.Swap(nil); strike != nil {
				(*strike)()
			}
		})
		// it fails while they are down
		s.every(ctx, 50*time.Millisecond, func(ctx context.Context) { _ = r.Rotate(ctx, false) })
	}
	return s
}

// stock keeps a set for its max-age, and longer only when there is no other; it
// doesn't fetch for a key that it doesn't know.
type stock struct {
	ring  *signing.Ring
	keys  map[string]authn.Key
	until time.Time
}

func (s *stock) Key(_ context.Context, kid string) (authn.Key, error) {
	if set, ok := s.ring.Published(); ok && !time.Now().Before(s.until) {
		s.keys, s.until = map[string]authn.Key{}, time.Now().Add(set.MaxAge)
		for _, k := range set.Keys {
			s.keys[k.KeyID] = authn.Key{Algorithm: k.Algorithm, Public: k.Key}
		}
	}
	k, ok := s.keys[kid]
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return k, nil
}

// verify has a verifier look at each token that is signed, and at one of those
// of before.
func (s *suite) verify(ctx context.Context, number int, keys authn.KeySource) {
	v := authn.NewVerifier(keys, authn.Options{Issuer: issuer, Leeway: brief().Skew})
	looked := 0
	s.every(ctx, 5*time.Millisecond, func(ctx context.Context) {
		s.mu.Lock()
		todo := s.tokens[looked:]
		looked = len(s.tokens)
		if looked > 0 {
			todo = append(todo[:len(todo):len(todo)], s.tokens[max(0, looked-1-rand.N(min(looked, 1000)))])
		}
		s.mu.Unlock()
		for _, token := range todo {
			if !time.Now().Before(token.expires) {
				continue
			}
			_, err := v.Verify(ctx, token.token)
			if ctx.Err() != nil {
				return
			}
			s.verified.Add(1)
			if s.down.Load() {
				s.whileDown.Add(1)
			}
			if err != nil {
				s.failed.Add(1)
				s.t.Error(err)
			}
			if t, _, err := jwt.NewParser().ParseUnverified(token.token, jwt.MapClaims{}); err == nil {
				s.seen[number].Store(t.Header["kid"], true)
			}
		}
	})
}

// awaitStandby waits until a key is on standby: for a moment after a rotation there is none.
func (s *suite) awaitStandby() {
	s.t.Helper()
	testkit.Eventually(s.t, time.Minute, func() bool {
		var n int
		err := s.db.SQL().QueryRowContext(s.t.Context(),
			"SELECT count(*) FROM signing_keys WHERE state = 'STANDBY'").Scan(&n)
		if err != nil {
			s.t.Fatal(err)
		}
		return n == 1
	})
}

// standbyKID is the kid of the standby.
func (s *suite) standbyKID() (kid string) {
	s.t.Helper()
	s.awaitStandby()
	err := s.db.SQL().QueryRowContext(s.t.Context(),
		"SELECT kid FROM signing_keys WHERE state = 'STANDBY'").Scan(&kid)
	if err != nil {
		s.t.Fatal(err)
	}
	return kid
}

// used reports whether every verifier has seen tokens of kid.
func (s *suite) used(kid string) bool {
	for i := range s.seen {
		if _, ok := s.seen[i].Load(kid); !ok {
			return false
		}
	}
	return true
}
