package app_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/seal"
)

func TestTheKeySetIsTheSameOverBothPorts(t *testing.T) {
	for _, algorithm := range signing.Algorithms() {
		t.Run(algorithm, func(t *testing.T) { sameOverBothPorts(t, start(t, "PURSER_KEYS_ALGORITHM="+algorithm)) })
	}
}

func sameOverBothPorts(t *testing.T, s service) {
	t.Helper()
	overGRPC, err := s.tokens.GetJwks(t.Context(), &authv1.GetJwksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.http+"/.well-known/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var overHTTP struct{ Keys []map[string]string }
	if err := json.Unmarshal(body, &overHTTP); err != nil {
		t.Fatal(err)
	}
	if len(overHTTP.Keys) != 2 || len(overGRPC.GetKeys()) != 2 || overGRPC.GetEpoch() != 1 ||
		overGRPC.GetMaxAge().AsDuration() != 5*time.Minute {
		t.Fatalf("%v and %s", overGRPC, body)
	}
	for i, k := range overGRPC.GetKeys() {
		got := map[string]string{"kid": k.GetKid(), "kty": k.GetKty(), "alg": k.GetAlg(), "use": k.GetUse(),
			"crv": k.GetCrv(), "x": k.GetX(), "y": k.GetY(), "n": k.GetN(), "e": k.GetE()}
		maps.DeleteFunc(got, func(_, value string) bool { return value == "" })
		if !maps.Equal(got, overHTTP.Keys[i]) {
			t.Errorf("key %d: %v and %v", i, got, overHTTP.Keys[i])
		}
	}
}

// The forger has a valid token of their own, the public keys, and once even
// the service's private key, to show that each check stands alone.
type forger struct {
	good    string
	kid     string
	public  ed25519.PublicKey
	private ed25519.PrivateKey
	claims  jwt.MapClaims
}

func newForger(t *testing.T, s service) forger {
	t.Helper()
	s.register(t, "mallory@example.com")
	f := forger{good: s.login(t, "mallory@example.com").GetAccessToken(), claims: jwt.MapClaims{}}
	parsed, _, err := jwt.NewParser().ParseUnverified(f.good, f.claims)
	if err != nil {
		t.Fatal(err)
	}
	f.kid = parsed.Header["kid"].(string)
	sealer, err := seal.New([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	reading, err := store.NewKeys(s.db.DB).Load(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range reading.Keys {
		if k.KID != f.kid {
			continue
		}
		seed, err := sealer.Open(k.Sealed, k.Wrapped, []byte(issuer+"|"+k.KID+"|"+k.Algorithm))
		if err != nil {
			t.Fatal(err)
		}
		f.public, f.private = k.Public, ed25519.NewKeyFromSeed(seed)
	}
	if f.private == nil {
		t.Fatal("the key that signed isn't in the database")
	}
	return f
}

// forge signs the good token's claims after change.
func (f forger) forge(t *testing.T, m jwt.SigningMethod, key any,
	change func(header map[string]any, claims jwt.MapClaims)) string {
	t.Helper()
	token := jwt.NewWithClaims(m, maps.Clone(f.claims))
	token.Header["typ"], token.Header["kid"] = "at+jwt", f.kid
	change(token.Header, token.Claims.(jwt.MapClaims))
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestForgedTokensAreRefused(t *testing.T) {
	s := start(t)
	f := newForger(t, s)
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, v any) func(map[string]any, jwt.MapClaims) {
		return func(_ map[string]any, c jwt.MapClaims) { c[name] = v }
	}
	head := func(name string, v any) func(map[string]any, jwt.MapClaims) {
		return func(h map[string]any, _ jwt.MapClaims) { h[name] = v }
	}
	none := func(map[string]any, jwt.MapClaims) {}
	eddsa := jwt.SigningMethodEdDSA
	parts := strings.Split(f.good, ".")
	admin := base64.RawURLEncoding.EncodeToString([]byte(`{"roles":["admin"]}`))
	past := time.Now().Add(-time.Hour).Unix()
	for _, tc := range []struct{ name, token, reason string }{
		{"the control is accepted", f.forge(t, eddsa, f.private, none), ""},
		{"an empty one is missing", "", "TOKEN_MISSING"},
		{"text is no token", "hunter2", "TOKEN_INVALID"},
		{"other claims under a good signature", parts[0] + "." + admin + "." + parts[2], "TOKEN_INVALID"},
		{"a signature cut off", parts[0] + "." + parts[1] + ".", "TOKEN_INVALID"},
		{"a signature of another's key", f.forge(t, eddsa, stranger, none), "TOKEN_INVALID"},
		{"alg none", f.forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, none), "TOKEN_INVALID"},
		{"HS256 with the public key as its secret", f.forge(t, jwt.SigningMethodHS256, []byte(f.public), none),
			"TOKEN_INVALID"},
		{"a typ of an ID token", f.forge(t, eddsa, f.private, head("typ", "JWT")), "TOKEN_INVALID"},
		{"a kid that nobody has", f.forge(t, eddsa, f.private, head("kid", "made-up")), "TOKEN_INVALID"},
		{"no kid", f.forge(t, eddsa, f.private, head("kid", "")), "TOKEN_INVALID"},
		{"a critical header", f.forge(t, eddsa, f.private, head("crit", []string{"exp"})), "TOKEN_INVALID"},
		{"another audience", f.forge(t, eddsa, f.private, set("aud", "other")), "TOKEN_INVALID"},
		{"another issuer", f.forge(t, eddsa, f.private, set("iss", "https://other.example")), "TOKEN_INVALID"},
		{"an expired one", f.forge(t, eddsa, f.private, set("exp", past)), "TOKEN_EXPIRED"},
		{"one that never expires", f.forge(t, eddsa, f.private,
			func(_ map[string]any, c jwt.MapClaims) { delete(c, "exp") }), "TOKEN_INVALID"},
		{"one of tomorrow", f.forge(t, eddsa, f.private, set("nbf", time.Now().Add(24*time.Hour).Unix())),
			"TOKEN_INVALID"},
		{"a subject that is no user", f.forge(t, eddsa, f.private, set("sub", "root")), "TOKEN_INVALID"},
		{"one of nine kilobytes", f.good + strings.Repeat("x", 9<<10), "TOKEN_INVALID"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Set by hand: an empty token is not left out.
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+tc.token)
			_, err := s.accounts.GetMe(ctx, &authv1.GetMeRequest{})
			if tc.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := want(t, err, errs.KindUnauthenticated, tc.reason)
			if strings.Contains(e.Message, "signature") || strings.Contains(e.Message, "kid") {
				t.Errorf("the caller is told how: %s", e.Message)
			}
		})
	}
}

func TestEveryMethodThatIsNotPublicNeedsAToken(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	for _, tc := range []struct {
		name   string
		header []string
		reason string
	}{
		{"no header", nil, "TOKEN_MISSING"},
		{"another scheme", []string{"authorization", "Basic " + token}, "TOKEN_INVALID"},
		{"no scheme", []string{"authorization", token}, "TOKEN_INVALID"},
		{"two headers", []string{"authorization", "Bearer " + token, "authorization", "Bearer " + token},
			"TOKEN_INVALID"},
	} {
		for name, call := range map[string]func(context.Context) error{
			"GetMe": func(ctx context.Context) error {
				_,
					err := s.accounts.GetMe(ctx, &authv1.GetMeRequest{})
				return err
			},
			"Logout": func(ctx context.Context) error {
				_,
					err := s.sessions.Logout(ctx, &authv1.LogoutRequest{})
				return err
			},
		} {
			t.Run(name+" with "+tc.name, func(t *testing.T) {
				want(t, call(metadata.AppendToOutgoingContext(t.Context(), tc.header...)), errs.KindUnauthenticated,
					tc.reason)
			})
		}
	}
	if _, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), token), &authv1.GetMeRequest{}); err != nil {
		t.Error(err)
	}
}
