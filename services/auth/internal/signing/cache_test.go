package signing_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
)

func redisClient(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: url, Name: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// two replicas of one store: the second one's way to it is cut by a test.
func two(t *testing.T, sets signing.Cache) (w *world, whole, cut *signing.Ring, unavailable *severed) {
	t.Helper()
	w = newWorld(t, compressed())
	unavailable = &severed{rotating: w.store}
	for _, r := range []**signing.Ring{&whole, &cut} {
		var s signing.Store = w.store
		if r == &cut {
			s = unavailable
		}
		*r = signing.NewRing(issuer, w.policy, s, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		(*r).SetNow(func() time.Time { return w.now })
		(*r).UseCache(sets)
		if err := (*r).Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w, whole, cut, unavailable
}

func TestAReplicaWithoutItsDatabaseLearnsTheNewSetFromTheCache(t *testing.T) {
	server := testkit.Redis(t)
	client := redisClient(t, server.URL())
	sets := store.NewKeySetCache(client)
	w, whole, cut, unavailable := two(t, sets)
	rotator := signing.NewRotator(issuer, w.policy, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
	rotator.UseCache(sets)
	old := kidOf(t, cut.Sign)
	unavailable.err = errors.New("unavailable")
	for range 600 {
		w.now = w.now.Add(time.Second)
		if err := rotator.Rotate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := whole.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cut.Refresh(t.Context()); err == nil {
			t.Fatal("a database that is unavailable was read")
		}
		known, ok := whole.Published()
		set, there := cut.Published()
		if !ok || !there || set.Epoch != known.Epoch || set.ETag != known.ETag || set.MaxAge > known.MaxAge {
			t.Fatalf("epoch %d with %s is published beside epoch %d with %s", set.Epoch, set.MaxAge, known.Epoch,
				known.MaxAge)
		}
		token, _, err := whole.Sign(claims(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := authn.NewVerifier(cut, authn.Options{Issuer: issuer,
			Now: func() time.Time { return w.now }}).Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := cut.Sign(claims(), time.Second); reason(err) != "SIGNING_UNAVAILABLE" {
		t.Errorf("it signs without its database: %v", err)
	}
	if w.store.promotions < 10 || kidOf(t, whole.Sign) == old {
		t.Errorf("%d rotations", w.store.promotions)
	}
	keys, err := client.Keys(t.Context(), "purser:auth:jwks:*").Result()
	if err != nil || len(keys) != 1 {
		t.Errorf("the cache has %v, %v: the old ones are not deleted", keys, err)
	}
	testkit.Figure(t, "cut off from Postgres for 10 minutes and %d rotations: the current set was "+
		"published throughout", w.store.promotions)
	t.Run("control: without the cache it has none", func(t *testing.T) {
		w, _, cut, unavailable := two(t, nil)
		unavailable.err = errors.New("unavailable")
		w.now = w.now.Add(time.Minute)
		if _, ok := cut.Published(); ok {
			t.Error("it has")
		}
	})
}

func TestWhoWritesToTheCacheMakesNoKeys(t *testing.T) {
	server := testkit.Redis(t)
	client := redisClient(t, server.URL())
	w, whole, cut, unavailable := two(t, store.NewKeySetCache(client))
	_ = whole
	keys, err := client.Keys(t.Context(), "purser:auth:jwks:*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	good := client.Get(t.Context(), keys[0]).Val()
	later := keys[0][:len(keys[0])-1] + "2"
	unavailable.err = errors.New("unavailable")
	before, _ := cut.Published()
	for name, forged := range map[string]string{
		"the set of another epoch": good,
		"a set in the clear":       fmt.Sprintf(`{"now":%q,"set":%s}`, w.now.Format(time.RFC3339), before.Document),
		"nothing sealed":           `{}`,
		"no JSON":                  "x",
	} {
		t.Run(name, func(t *testing.T) {
			if err := client.Set(t.Context(), later, forged, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			if err := cut.Refresh(t.Context()); err == nil {
				t.Error("nothing failed")
			}
			if set, ok := cut.Published(); !ok || set.Epoch != before.Epoch || set.ETag != before.ETag {
				t.Errorf("epoch %d is published", set.Epoch)
			}
		})
	}
}

func TestARedisThatIsAwayCostsTheKeysNothing(t *testing.T) {
	w, whole, _, _ := two(t, store.NewKeySetCache(redisClient(t, "redis://127.0.0.1:1/0")))
	rotator := signing.NewRotator(issuer, w.policy, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
	rotator.UseCache(store.NewKeySetCache(redisClient(t, "redis://127.0.0.1:1/0")))
	for range 60 {
		w.now = w.now.Add(time.Second)
		if err := errors.Join(rotator.Rotate(t.Context(), false), whole.Refresh(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, ok := whole.Published(); !ok {
			t.Fatal("no set")
		}
	}
	if w.store.promotions < 1 {
		t.Error("nothing rotated")
	}
}
