package authn_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit/versus"
)

func TestATokenIsNotCachedPastItsExpiryNorItsKey(t *testing.T) {
	signers, ring := newSigners(t)
	now := time.Now()
	v := authn.NewVerifier(ring, authn.Options{Issuer: issuer, Now: func() time.Time { return now }})
	token := sign(t, jwt.SigningMethodEdDSA, signers["ed"].private, "ed", claims(now, nil), nil)
	verify := func(want string) {
		t.Helper()
		for range 3 {
			c, err := v.Verify(t.Context(), token)
			if reasonOf(err) != want || want == "" &&
				(c.UserID != user || c.SessionID != session || c.Token != token) {
				t.Fatalf("%v, %v; want %q", c, err, want)
			}
		}
	}
	verify("")
	if tampered := token[:len(token)-2] + "xx"; reasonOf(second(v.Verify(t.Context(), tampered))) != "TOKEN_INVALID" {
		t.Fatal("one like it was taken for it")
	}
	known := ring["ed"]
	ring["ed"] = authn.Key{Algorithm: "EdDSA", Public: publicKey(t)} // the same kid, another key
	verify("TOKEN_INVALID")
	ring["ed"] = known
	verify("")
	delete(ring, "ed")
	verify("TOKEN_INVALID")
	ring["ed"] = known
	verify("")
	now = now.Add(15*time.Minute + 29*time.Second) // within the leeway
	verify("")
	now = now.Add(2 * time.Second)
	verify("TOKEN_EXPIRED")
}

func second(_ authn.Caller, err error) error { return err }

func TestARememberedTokenAllocatesNothing(t *testing.T) {
	signers, ring := newSigners(t)
	token := sign(t, jwt.SigningMethodEdDSA, signers["ed"].private, "ed", claims(time.Now(), nil), nil)
	v := fresh(t, ring)
	ctx := t.Context()
	verify := func() {
		if _, err := v.Verify(ctx, token); err != nil {
			t.Error(err)
		}
	}
	verify()
	if n := testing.AllocsPerRun(100, verify); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

// A caller chooses how long the header is that a token stands in.
func TestARememberedTokenKeepsNothingElse(t *testing.T) {
	signers, ring := newSigners(t)
	header := "Bearer " + sign(t, jwt.SigningMethodEdDSA, signers["ed"].private, "ed", claims(noon, nil), nil)
	token := header[len("Bearer "):]
	c, err := verifier(ring).Verify(t.Context(), token)
	fail(t, err)
	if c.Token != token || unsafe.StringData(c.Token) == unsafe.StringData(token) {
		t.Error("the token that is remembered is a part of the header")
	}
}

// Another token with the signature of one that is remembered is looked at in full.
func TestASignatureAloneIsNotRemembered(t *testing.T) {
	signers, ring := newSigners(t)
	ed := signers["ed"]
	v := verifier(ring)
	token := sign(t, ed.method, ed.private, "ed", claims(noon, nil), nil)
	fail(t, second(v.Verify(t.Context(), token)))
	parts := strings.Split(token, ".")
	parts[1] = encode(t, claims(noon, map[string]any{"permissions": []string{"admin"}}))
	forged := strings.Join(parts, ".")
	for range 2 {
		if c, err := v.Verify(t.Context(), forged); reasonOf(err) != "TOKEN_INVALID" || !c.Anonymous() {
			t.Fatal(c, err)
		}
		fail(t, second(v.Verify(t.Context(), token))) // and the other stays
	}
}

// BenchmarkVerify is beside the signature check that it can't do without.
func BenchmarkVerify(b *testing.B) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	fail(b, err)
	ring := keyring{"ed": {Algorithm: "EdDSA", Public: public}}
	token := sign(b, jwt.SigningMethodEdDSA, private, "ed", claims(time.Now(), nil), nil)
	signed := []byte(token[:strings.LastIndexByte(token, '.')])
	signature := ed25519.Sign(private, signed)
	raw := func() {
		if !ed25519.Verify(public, signed, signature) {
			b.Fatal("raw")
		}
	}
	must := func(_ authn.Caller, err error) {
		if err != nil { // not by fail, whose Helper takes as long as a remembered token
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	b.Run("First", func(b *testing.B) {
		v, next := fresh(b, ring), 0
		tokens := make([]string, 12_000) // more than are remembered
		for i := range tokens {
			tokens[i] = sign(b, jwt.SigningMethodEdDSA, private, "ed",
				claims(time.Now(), map[string]any{"jti": fmt.Sprint(i)}), nil)
		}
		versus.Run(b, versus.Comparison{Goal: 1.15, Raw: raw, Ours: func() {
			next++
			must(v.Verify(ctx, tokens[next%len(tokens)]))
		}})
	})
	b.Run("Remembered", func(b *testing.B) {
		v := fresh(b, ring)
		must(v.Verify(ctx, token))
		for b.Loop() {
			must(v.Verify(ctx, token))
		}
		b.ReportMetric(500, "goal-ns")
	})
}

// fresh is a verifier that knows of some revocations.
func fresh(t testing.TB, ring keyring) *authn.Verifier {
	revoked := newRevocations()
	for range 10_000 {
		fail(t, revoked.Apply(news(authn.Revoked{Kind: authn.RevokedSession, Subject: uuid.NewString(),
			Until: time.Now().Add(time.Hour)})))
	}
	return authn.NewVerifier(ring, authn.Options{Issuer: issuer, Revoked: revoked.Revoked})
}
