package authn_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

const issuer = "https://issuer.test"

var (
	user    = uuid.MustParse("0190c0de-0000-7000-8000-000000000001")
	session = uuid.MustParse("0190c0de-0000-7000-8000-000000000002")
)

// keyring is a KeySource of fixed keys.
type keyring map[string]authn.Key

func (k keyring) Key(_ context.Context, kid string) (authn.Key, error) {
	key, ok := k[kid]
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return key, nil
}

// signer is a private key with what it signs by.
type signer struct {
	private crypto.Signer
	method  jwt.SigningMethod
}

// rsaKey is the same in all tests: making one takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newSigners(t testing.TB) (map[string]signer, keyring) {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	fail(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(t, err)
	rs, err := rsaKey()
	fail(t, err)
	signers := map[string]signer{
		"ed": {ed, jwt.SigningMethodEdDSA}, "ec": {ec, jwt.SigningMethodES256}, "rs": {rs, jwt.SigningMethodRS256},
	}
	ring := keyring{}
	for kid, s := range signers {
		ring[kid] = authn.Key{Algorithm: s.method.Alg(), Public: s.private.Public()}
	}
	return signers, ring
}

func fail(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// claims of a good token at now, with changes.
func claims(now time.Time, change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": issuer, "aud": authn.Audience, "sub": user.String(), "sid": session.String(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
		"jti": "1", "permissions": []string{"wallet:read"}, "roles": []string{"user"},
	}
	maps.Copy(c, change)
	for k, v := range change {
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

// sign makes a token of this kid, with changes to its header.
func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, c jwt.Claims, change map[string]any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	tok.Header["typ"], tok.Header["kid"] = authn.TokenType, kid
	for k, v := range change {
		tok.Header[k] = v
		if v == nil {
			delete(tok.Header, k)
		}
	}
	s, err := tok.SignedString(key)
	fail(t, err)
	return s
}

func reasonOf(err error) string {
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	return ""
}

// jwks is the document of public keys by kid.
func jwks(t testing.TB, keys map[string]any) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for kid, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k, KeyID: kid, Use: "sig"})
	}
	b, err := json.Marshal(set)
	fail(t, err)
	return b
}

func publicKey(t testing.TB) ed25519.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	fail(t, err)
	return pub
}
