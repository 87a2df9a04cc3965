package signing_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

func TestATokenOfEachAlgorithmVerifiesWithStockVerifiersFromTheDocument(t *testing.T) {
	for _, algorithm := range signing.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			p := policy()
			p.Algorithm = algorithm
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			r := signing.NewRing(issuer, p, &memory{}, sealer(t, "kek"), slog.New(slog.DiscardHandler))
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := claims()
			token, _, err := r.Sign(want, 15*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			published, ok := r.Published()
			var set jose.JSONWebKeySet
			if err := json.Unmarshal(published.Document, &set); err != nil || !ok {
				t.Fatal(err)
			}
			for _, k := range set.Keys {
				if !k.IsPublic() || !k.Valid() || k.Use != "sig" || k.Algorithm != algorithm {
					t.Errorf("the document holds %+v", k)
				}
			}
			if _, err := authn.NewVerifier(r, authn.Options{Issuer: issuer}).Verify(t.Context(), token); err != nil {
				t.Error("Purser's own: ", err)
			}
			if err := withGolangJWT(token, set, algorithm); err != nil {
				t.Error("golang-jwt: ", err)
			}
			parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
			if err != nil {
				t.Fatal(err)
			}
			var got josejwt.Claims
			if err := parsed.Claims(set, &got); err != nil || got.Subject != want.Subject {
				t.Error("go-jose: ", err)
			}
			keys, err := jwk.Parse(published.Document)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jwxjwt.Parse([]byte(token), jwxjwt.WithKeySet(keys), jwxjwt.WithIssuer(issuer),
				jwxjwt.WithAudience("purser")); err != nil {
				t.Error("jwx: ", err)
			}
		})
	}
}

func withGolangJWT(token string, set jose.JSONWebKeySet, algorithm string) error {
	_, err := jwt.Parse(token, func(t *jwt.Token) (any, error) {
		keys := set.Key(t.Header["kid"].(string))
		if len(keys) != 1 {
			return nil, errors.New("not one key of this kid")
		}
		return keys[0].Key, nil
	}, jwt.WithValidMethods([]string{algorithm}), jwt.WithIssuer(issuer), jwt.WithAudience("purser"))
	return err
}

func TestAChangeOfAlgorithmTakesEffectWithTheNextKeysAndBreaksNoToken(t *testing.T) {
	t.Parallel() // beside the test that waits for its servers
	w := newWorld(t, compressed())
	algorithms := func() map[string]bool {
		reading, err := w.store.Load(t.Context(), issuer)
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]bool{}
		for _, k := range reading.Keys {
			in[k.Algorithm] = true
		}
		return in
	}
	for _, algorithm := range []string{signing.ES256, signing.EdDSA, signing.RS256} {
		before := w.store.promotions
		p := compressed()
		p.Algorithm = algorithm
		w.rotator = signing.NewRotator(issuer, p, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		both := false
		for w.store.promotions < before+4 {
			w.second(testkit.Size(16, 128))
			both = both || len(algorithms()) > 1
		}
		if in := algorithms(); len(in) != 1 || !in[algorithm] || !both {
			t.Errorf("four keys after the change to %s the set has %v; both at once: %v", algorithm, in, both)
		}
	}
	if w.failed > 0 {
		t.Errorf("%d of %d verifications failed", w.failed, w.verified)
	}
}

func TestAnAlgorithmThatPurserDoesNotSignByIsRefused(t *testing.T) {
	p := policy()
	for _, algorithm := range []string{"none", "HS256", "eddsa", "PS256"} {
		p.Algorithm = algorithm
		if err := p.Validate(); err == nil {
			t.Errorf("%s is taken", algorithm)
		}
	}
}
