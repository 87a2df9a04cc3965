package authn_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func verifier(ring authn.KeySource) *authn.Verifier {
	return authn.NewVerifier(ring, authn.Options{Issuer: issuer, Now: func() time.Time { return noon }})
}

func TestATokenOfEachAlgorithmTellsWhoIsCalling(t *testing.T) {
	signers, ring := newSigners(t)
	for kid, s := range signers {
		t.Run(s.method.Alg(), func(t *testing.T) {
			token := sign(t, s.method, s.private, kid, claims(noon, nil), nil)
			c, err := verifier(ring).Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			if c.UserID != user || c.SessionID != session || c.Token != token ||
				!c.ExpiresAt.Equal(noon.Add(15*time.Minute)) ||
				!slices.Equal(c.Permissions, []string{"wallet:read"}) || !slices.Equal(c.Roles, []string{"user"}) {
				t.Errorf("caller %+v", c)
			}
		})
	}
}

func TestTheFormsThatTheStandardsAllowAreAccepted(t *testing.T) {
	signers, ring := newSigners(t)
	ed := signers["ed"]
	for name, token := range map[string]string{
		"the media type in full": sign(t, ed.method, ed.private, "ed", claims(noon, nil),
			map[string]any{"typ": "application/at+jwt"}),
		"the type in capitals": sign(t, ed.method, ed.private, "ed", claims(noon, nil),
			map[string]any{"typ": "AT+JWT"}),
		"ours among several audiences": sign(t, ed.method, ed.private, "ed",
			claims(noon, map[string]any{"aud": []string{"x", authn.Audience}}), nil),
		"expired within the leeway": sign(t, ed.method, ed.private, "ed",
			claims(noon, map[string]any{"exp": noon.Add(-29 * time.Second).Unix()}), nil),
		"issued by a clock a little ahead": sign(t, ed.method, ed.private, "ed",
			claims(noon.Add(29*time.Second), nil), nil),
		"without the optional claims": sign(t, ed.method, ed.private, "ed",
			claims(noon, map[string]any{"nbf": nil, "iat": nil, "roles": nil, "permissions": nil}), nil),
		"with claims that we know nothing of": sign(t, ed.method, ed.private, "ed",
			claims(noon, map[string]any{"more": map[string]int{"a": 1}}), nil),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verifier(ring).Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestATokenThatIsNotRightIsRefused(t *testing.T) {
	signers, ring := newSigners(t)
	ed, rs, ec := signers["ed"], signers["rs"], signers["ec"]
	withClaims := func(change map[string]any) string {
		return sign(t, ed.method, ed.private, "ed", claims(noon, change), nil)
	}
	withHeader := func(change map[string]any) string {
		return sign(t, ed.method, ed.private, "ed", claims(noon, nil), change)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	fail(t, err)
	otherRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	fail(t, err)
	good := withClaims(nil)
	parts := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(ed.private.Public())
	fail(t, err)
	rsDER, err := x509.MarshalPKIXPublicKey(rs.private.Public())
	fail(t, err)
	hmac := func(kid string, secret []byte) string {
		return sign(t, jwt.SigningMethodHS256, secret, kid, claims(noon, nil), nil)
	}
	hour := time.Hour
	for name, tt := range map[string]struct{ token, reason string }{
		"no token":        {"", "TOKEN_MISSING"},
		"garbage":         {"garbage", "TOKEN_INVALID"},
		"dots only":       {"..", "TOKEN_INVALID"},
		"a part too many": {good + ".x", "TOKEN_INVALID"},
		"no signature":    {parts[0] + "." + parts[1] + ".", "TOKEN_INVALID"},
		"alg none": {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType,
			"ed", claims(noon, nil), nil), "TOKEN_INVALID"},
		"alg None by another spelling": {rehead(t, good, map[string]any{"alg": "nOnE"}), "TOKEN_INVALID"},
		"HS256 keyed with the public key": {hmac("ed", ed.private.Public().(ed25519.PublicKey)),
			"TOKEN_INVALID"},
		"HS256 keyed with its DER": {hmac("ed", der), "TOKEN_INVALID"},
		"HS256 keyed with an RSA key's PEM": {hmac("rs",
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsDER})), "TOKEN_INVALID"},
		"a stranger's key under our kid": {sign(t, ed.method, stranger, "ed", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"the right key under another's kid": {sign(t, ed.method, ed.private, "ec", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"RS256 under an ES256 key's kid": {sign(t, rs.method, rs.private, "ec", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"ES256 under an EdDSA key's kid": {sign(t, ec.method, ec.private, "ed", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"PS256 by an RS256 key": {sign(t, jwt.SigningMethodPS256, rs.private, "rs", claims(noon, nil),
			nil), "TOKEN_INVALID"},
		"RS512 by an RS256 key": {sign(t, jwt.SigningMethodRS512, rs.private, "rs", claims(noon, nil),
			nil), "TOKEN_INVALID"},
		"another RSA key": {sign(t, rs.method, otherRSA, "rs", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"an unknown kid": {sign(t, ed.method, ed.private, "nobody", claims(noon, nil), nil),
			"TOKEN_INVALID"},
		"no kid":                 {withHeader(map[string]any{"kid": nil}), "TOKEN_INVALID"},
		"an empty kid":           {withHeader(map[string]any{"kid": ""}), "TOKEN_INVALID"},
		"a kid that is a number": {withHeader(map[string]any{"kid": 7}), "TOKEN_INVALID"},
		"a kid too long": {withHeader(map[string]any{"kid": strings.Repeat("k", 129)}),
			"TOKEN_INVALID"},
		"its own key in the header": {sign(t, ed.method, stranger, "mine", claims(noon, nil),
			map[string]any{"jwk": map[string]string{"kty": "OKP"}}), "TOKEN_INVALID"},
		"a critical extension": {withHeader(map[string]any{"crit": []string{"b64"}, "b64": false}),
			"TOKEN_INVALID"},
		"a critical extension that is no list": {withHeader(map[string]any{"crit": "x"}), "TOKEN_INVALID"},
		"an ID token's type":                   {withHeader(map[string]any{"typ": "JWT"}), "TOKEN_INVALID"},
		"no type":                              {withHeader(map[string]any{"typ": nil}), "TOKEN_INVALID"},
		"another issuer": {withClaims(map[string]any{"iss": "https://evil.test"}),
			"TOKEN_INVALID"},
		"no issuer":                    {withClaims(map[string]any{"iss": nil}), "TOKEN_INVALID"},
		"our issuer with a slash more": {withClaims(map[string]any{"iss": issuer + "/"}), "TOKEN_INVALID"},
		"another audience":             {withClaims(map[string]any{"aud": "other"}), "TOKEN_INVALID"},
		"no audience":                  {withClaims(map[string]any{"aud": nil}), "TOKEN_INVALID"},
		"an empty list of audiences":   {withClaims(map[string]any{"aud": []string{}}), "TOKEN_INVALID"},
		"expired, of a key that has left the set": {sign(t, ed.method, stranger, "retired",
			claims(noon, map[string]any{"exp": noon.Add(-hour).Unix()}), nil), "TOKEN_EXPIRED"},
		"expired": {withClaims(map[string]any{"exp": noon.Add(-hour).Unix()}),
			"TOKEN_EXPIRED"},
		"expired just past the leeway": {withClaims(
			map[string]any{"exp": noon.Add(-31 * time.Second).Unix()}), "TOKEN_EXPIRED"},
		"without an expiry":        {withClaims(map[string]any{"exp": nil}), "TOKEN_INVALID"},
		"an expiry that is a text": {withClaims(map[string]any{"exp": "tomorrow"}), "TOKEN_INVALID"},
		"expired and signed by a stranger": {sign(t, ed.method, stranger, "ed", claims(noon.Add(-hour), nil),
			nil), "TOKEN_INVALID"},
		"not valid yet": {withClaims(map[string]any{"nbf": noon.Add(hour).Unix()}),
			"TOKEN_INVALID"},
		"issued in the future": {withClaims(map[string]any{"iat": noon.Add(hour).Unix()}),
			"TOKEN_INVALID"},
		"no subject":                {withClaims(map[string]any{"sub": nil}), "TOKEN_INVALID"},
		"a subject that is no UUID": {withClaims(map[string]any{"sub": "admin"}), "TOKEN_INVALID"},
		"the nil UUID as subject": {withClaims(map[string]any{"sub": uuid.Nil.String()}),
			"TOKEN_INVALID"},
		"no session":                {withClaims(map[string]any{"sid": nil}), "TOKEN_INVALID"},
		"a session that is no UUID": {withClaims(map[string]any{"sid": "1"}), "TOKEN_INVALID"},
		"the nil UUID as session": {withClaims(map[string]any{"sid": uuid.Nil.String()}),
			"TOKEN_INVALID"},
		"too long": {withClaims(map[string]any{"pad": strings.Repeat("x", 9<<10)}),
			"TOKEN_INVALID"},
		"an altered claim under the old sign": {parts[0] + "." +
			encode(t, claims(noon, map[string]any{"permissions": []string{"admin"}})) + "." + parts[2],
			"TOKEN_INVALID"},
		"the sign in a looser base64":   {good + "=", "TOKEN_INVALID"},
		"a line break in the sign":      {good[:len(good)-4] + "\n" + good[len(good)-4:], "TOKEN_INVALID"},
		"a session as a number, signed": {withClaims(map[string]any{"sid": 5}), "TOKEN_INVALID"},
		"permissions that aren't a list, signed": {withClaims(map[string]any{"permissions": "wallet:read"}),
			"TOKEN_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := verifier(ring).Verify(t.Context(), tt.token)
			if reasonOf(err) != tt.reason || !errs.Is(err, errs.KindUnauthenticated) {
				t.Errorf("%v, want %s", err, tt.reason)
			}
			if !c.Anonymous() || c.Token != "" || c.Permissions != nil {
				t.Errorf("a refused token gave the caller %+v", c)
			}
			if e := errs.As(err); e != nil && len(tt.token) > 20 && strings.Contains(e.Error(), tt.token) {
				t.Error("the error carries the token")
			}
		})
	}
}

func TestAKeyServesItsOwnAlgorithmOnly(t *testing.T) {
	signers, ring := newSigners(t)
	for kid, other := range map[string]string{"rs": "ES256", "ec": "EdDSA", "ed": "RS256"} {
		s := signers[kid]
		token := sign(t, s.method, s.private, kid, claims(noon, nil), nil)
		mislabelled := keyring{kid: {Algorithm: other, Public: ring[kid].Public}}
		if _, err := verifier(mislabelled).Verify(t.Context(), token); reasonOf(err) != "TOKEN_INVALID" {
			t.Errorf("a key for %s took a token of %s: %v", other, s.method.Alg(), err)
		}
	}
	pss := signers["rs"]
	token := sign(t, jwt.SigningMethodPS256, pss.private, "rs", claims(noon, nil), nil)
	foreign := keyring{"rs": {Algorithm: "PS256", Public: ring["rs"].Public}}
	if _, err := verifier(foreign).Verify(t.Context(), token); reasonOf(err) != "TOKEN_INVALID" {
		t.Errorf("an algorithm that Purser doesn't sign with was taken: %v", err)
	}
}

func TestWithoutAnIssuerNoTokenIsAccepted(t *testing.T) {
	signers, ring := newSigners(t)
	token := sign(t, signers["ed"].method, signers["ed"].private, "ed",
		claims(noon, map[string]any{"iss": "https://evil.test"}), nil)
	v := authn.NewVerifier(ring, authn.Options{Now: func() time.Time { return noon }})
	if c, err := v.Verify(t.Context(), token); err == nil {
		t.Errorf("a verifier without an issuer took %+v", c)
	}
}

type brokenSource struct{ err error }

func (b brokenSource) Key(context.Context, string) (authn.Key, error) { return authn.Key{}, b.err }

func TestAKeySourceThatIsUnavailableRefusesNoToken(t *testing.T) {
	signers, _ := newSigners(t)
	token := sign(t, signers["ed"].method, signers["ed"].private, "ed", claims(noon, nil), nil)
	for name, failure := range map[string]error{
		"the issuer is away": errs.Unavailable("KEYS_UNAVAILABLE", "away"),
		"the call ended":     context.Canceled,
		"the time ran out":   context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifier(brokenSource{failure}).Verify(t.Context(), token)
			if errs.Is(err, errs.KindUnauthenticated) || !errors.Is(err, failure) {
				t.Errorf("error %v, want %v", err, failure)
			}
		})
	}
}

func TestAnEmptyPermissionIsNobodys(t *testing.T) {
	c := authn.Caller{UserID: user, Permissions: []string{""}}
	if c.May("") || c.May("wallet:read") {
		t.Error("a permission that was not given")
	}
	if !(authn.Caller{}).Anonymous() || !authn.CallerFrom(t.Context()).Anonymous() {
		t.Error("nobody is somebody")
	}
	if got := authn.CallerFrom(authn.WithCaller(t.Context(), c)); got.UserID != user {
		t.Errorf("the context carries %+v", got)
	}
}

// FuzzVerify signs nothing: whatever comes must be refused.
func FuzzVerify(f *testing.F) {
	signers, ring := newSigners(f)
	good := sign(f, signers["ed"].method, signers["ed"].private, "ed", claims(noon, nil), nil)
	parts := strings.Split(good, ".")
	f.Add("")
	f.Add("..")
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "ed", claims(noon, nil), nil))
	f.Add(rehead(f, good, map[string]any{"kid": "rs", "alg": "RS256"}))
	f.Add(rehead(f, good, map[string]any{"kid": "ec", "alg": "ES256"}))
	f.Add(parts[0] + "." + encode(f, map[string]any{"exp": 1e300, "aud": 1, "sub": nil}) + "." + parts[2])
	v := verifier(ring)
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(t.Context(), token)
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) || !c.Anonymous() {
			t.Fatalf("%q gave %+v, %v", token, c, err)
		}
	})
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	fail(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

// rehead changes a token's header and leaves its signature.
func rehead(t testing.TB, token string, change map[string]any) string {
	t.Helper()
	head, rest, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	fail(t, err)
	var h map[string]any
	fail(t, json.Unmarshal(raw, &h))
	for k, v := range change {
		h[k] = v
	}
	return encode(t, h) + "." + rest
}
