package authn_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/authn"
)

// document is an issuer without a network, for tests with a made-up clock.
type document struct {
	mu      sync.Mutex
	body    []byte
	maxAge  string
	away    bool
	takes   time.Duration
	fetches atomic.Int64
}

func (d *document) set(change func(*document)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *document) RoundTrip(r *http.Request) (*http.Response, error) {
	d.fetches.Add(1)
	d.mu.Lock()
	takes := d.takes
	d.mu.Unlock()
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, errors.New("connection refused")
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(d.body))}
	if d.maxAge != "" {
		resp.Header.Set("Cache-Control", "public, max-age="+d.maxAge)
	}
	return resp, nil
}

// follow runs a test on a made-up clock, with a document that has key "a".
func follow(t *testing.T, body func(*testing.T, *document, *authn.RemoteKeys)) {
	key := publicKey(t)
	synctest.Test(t, func(t *testing.T) {
		d := &document{body: jwks(t, map[string]any{"a": key})}
		r := authn.NewRemoteKeysOver(d)
		body(t, d, r)
		fail(t, r.Close())
	})
}

func serves(t *testing.T, r *authn.RemoteKeys, kid string) {
	t.Helper()
	if k, err := r.Key(t.Context(), kid); err != nil || k.Algorithm != "EdDSA" {
		t.Errorf("kid %s: %+v, %v", kid, k, err)
	}
}

func TestManyFirstCallsCauseOneFetch(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.takes = time.Second })
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() { serves(t, r, "a") })
		}
		all.Wait()
		if n := d.fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestMadeUpKidsCauseOneFetchInTenSeconds(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.maxAge = "86400" })
		serves(t, r, "a")
		const per = 10_000
		begun, first := time.Now(), d.fetches.Load()
		for i := range per {
			if _, err := r.Key(t.Context(), fmt.Sprint("made-up-", i)); !errors.Is(err, authn.ErrUnknownKey) {
				t.Fatalf("kid %d: %v", i, err)
			}
			pass(time.Minute / per)
		}
		took := time.Since(begun)
		if n := d.fetches.Load() - first; n > int64(took/(10*time.Second)) || n < 5 {
			t.Errorf("%d made-up kids in %s caused %d fetches", per, took, n)
		}
	})
}

func TestANewKeyIsFoundWhenAsked(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		serves(t, r, "a")
		next := jwks(t, map[string]any{"b": publicKey(t)})
		d.set(func(d *document) { d.body = next })
		pass(11 * time.Second)
		serves(t, r, "b")
		if _, err := r.Key(t.Context(), "a"); !errors.Is(err, authn.ErrUnknownKey) {
			t.Errorf("a key that was taken out of the set: %v", err)
		}
	})
}

func TestWhileTheIssuerIsAwayKnownKeysServeForAnHour(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		serves(t, r, "a")
		d.set(func(d *document) { d.away = true })
		pass(59 * time.Minute)
		serves(t, r, "a")
		if _, err := r.Key(t.Context(), "new"); reasonOf(err) != "KEYS_UNAVAILABLE" {
			t.Errorf("a key that may be the issuer's newest was answered %v", err)
		}
		pass(2 * time.Minute)
		for range 3 {
			if _, err := r.Key(t.Context(), "a"); reasonOf(err) != "KEYS_UNAVAILABLE" {
				t.Errorf("after an hour: %v", err)
			}
		}
		d.set(func(d *document) { d.away = false })
		pass(time.Minute)
		serves(t, r, "a")
	})
}

func TestAnIssuerThatWasNeverAvailableIsCalledOnceASecond(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.away = true })
		for range 100 {
			if _, err := r.Key(t.Context(), "a"); reasonOf(err) != "KEYS_UNAVAILABLE" {
				t.Fatal(err)
			}
			pass(100 * time.Millisecond)
		}
		if n := d.fetches.Load(); n > 11 {
			t.Errorf("%d fetches in 10 s", n)
		}
		d.set(func(d *document) { d.away = false })
		pass(time.Second)
		serves(t, r, "a")
	})
}

func TestALongMaxAgeDoesNotLetTheKeysGrowTooOld(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.maxAge = "86400" })
		serves(t, r, "a")
		pass(3 * time.Hour)
		d.set(func(d *document) { d.away = true })
		pass(40 * time.Minute)
		serves(t, r, "a") // confirmed a quarter of an hour before the issuer left
	})
}

func TestAFailedRefreshIsRepeatedSoon(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.maxAge = "3600" })
		serves(t, r, "a")
		d.set(func(d *document) { d.away = true })
		pass(20 * time.Minute)
		before := d.fetches.Load()
		d.set(func(d *document) { d.away = false })
		pass(time.Minute)
		if d.fetches.Load() == before {
			t.Error("the issuer was back for a minute and nobody asked")
		}
	})
}

func TestAWaiterGivesUpWhenItsOwnTimeIsOver(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.takes = 2 * time.Second })
		var all sync.WaitGroup
		for range 10 { // the one that fetches, and those that wait for it
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				begun := time.Now()
				if _, err := r.Key(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				if waited := time.Since(begun); waited != 100*time.Millisecond {
					t.Errorf("waited %s", waited)
				}
			})
		}
		all.Wait()
		serves(t, r, "a") // by the fetch that went on
		if n := d.fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Key(ctx, "other"); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCloseCutsAFetchShortAndLeavesTheKeys(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		serves(t, r, "a")
		d.set(func(d *document) { d.takes = time.Hour })
		answered := make(chan error, 1)
		go func() {
			pass(10 * time.Second)
			_, err := r.Key(t.Context(), "other")
			answered <- err
		}()
		pass(11 * time.Second)
		begun := time.Now()
		fail(t, r.Close())
		fail(t, r.Close())
		if took := time.Since(begun); took > 0 {
			t.Errorf("closing took %s", took)
		}
		if err := <-answered; reasonOf(err) != "KEYS_UNAVAILABLE" {
			t.Errorf("the fetch that was cut short answered %v", err)
		}
		serves(t, r, "a")
		before := d.fetches.Load()
		_, _ = r.Key(t.Context(), "more")
		pass(time.Hour)
		if d.fetches.Load() != before {
			t.Error("a closed source goes on fetching")
		}
	})
}

// pass lets time go by on the made-up clock.
func pass(d time.Duration) { <-time.After(d) }

func TestOnlyUsablePublicKeysAreRead(t *testing.T) {
	signers, _ := newSigners(t)
	public := func(kid string) any { return signers[kid].private.Public() }
	private := jwks(t, map[string]any{"secret": signers["ed"].private, "ed": public("ed")})
	all := jwks(t, map[string]any{"ed": public("ed"), "ec": public("ec"), "rs": public("rs")})
	for name, tt := range map[string]struct {
		body []byte
		want int
	}{
		"one of each kind":                {all, 3},
		"a private key is passed over":    {private, 1},
		"a secret of HMAC is passed over": {[]byte(`{"keys":[{"kty":"oct","kid":"x","k":"AAAA"}]}`), 0},
		"a key without a kid":             {jwks(t, map[string]any{"": public("ed")}), 0},
		"a key for encryption":            {bytes.ReplaceAll(all, []byte(`"sig"`), []byte(`"enc"`)), 0},
		"a key of another algorithm": {[]byte(
			`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"x","alg":"RS256",` +
				`"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), 0},
		"an RSA key too short": {[]byte(
			`{"keys":[{"kty":"RSA","kid":"x","n":"4f5wg5l2hKsTeNem_V41fGnJm6gOdrj8ym3rFkEU_wT8RDtnSgFEZOQpHEgQ7JL3` +
				`8xUfU0Y3g6aYw9QT0hJ7mCpz9Er5qLaMXJwZxzHzAahlfA0icqabvJOMvQtzD6uQv6wPEyZtDTWiQi9AXwBpHssPnpYGIn20` +
				`ZZuNlX2BrCk","e":"AQAB"}]}`), 0},
		"an empty set":         {[]byte(`{"keys":[]}`), 0},
		"no set":               {[]byte(`{}`), 0},
		"nothing":              {nil, 0},
		"a web page":           {[]byte(`<html>`), 0},
		"nulls":                {[]byte(`{"keys":[null,1,"x",{}]}`), 0},
		"garbage beside a key": {append([]byte(`{"keys":[{"kty":"?"},`), all[len(`{"keys":[`):]...), 3},
		"a curve that is not P-256": {[]byte(
			`{"keys":[{"kty":"EC","crv":"P-384","kid":"x","x":"AA","y":"AA"}]}`), 0},
		"a point that is not on the curve": {[]byte(
			`{"keys":[{"kty":"EC","crv":"P-256","kid":"x","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE",` +
				`"y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}]}`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := authn.ParseKeySet(tt.body)
			if len(keys) != tt.want || (err == nil) != (tt.want > 0) {
				t.Errorf("%d keys, %v; want %d", len(keys), err, tt.want)
			}
			if _, ok := keys["secret"]; ok {
				t.Error("a private key was taken")
			}
		})
	}
}

func FuzzParseKeySet(f *testing.F) {
	f.Add(jwks(f, map[string]any{"a": publicKey(f)}))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"x"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"x","n":"","e":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"x","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := authn.ParseKeySet(body)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		for kid, k := range keys {
			if pub, ok := k.Public.(ed25519.PublicKey); kid == "" || ok && len(pub) != ed25519.PublicKeySize {
				t.Fatalf("kid %q: %+v", kid, k)
			}
		}
	})
}
