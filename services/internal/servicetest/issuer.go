package servicetest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcclient"
)

// Issuer stands in for the auth service: it signs access tokens and serves the
// key that verifies them.
type Issuer struct {
	URL string // PURSER_ISSUER of the service under test
	key ed25519.PrivateKey
}

const keyID = "test"

// NewIssuer serves a new key until the test ends.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keySet, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: keyID,
		Algorithm: "EdDSA", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{key: private}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/openid-configuration" {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL})
			return
		}
		_, _ = w.Write(keySet)
	}))
	i.URL = "http://" + server.Listener.Addr().String() // before it serves: others may have had this port
	server.Start()
	t.Cleanup(server.Close)
	return i
}

// Claim changes the claims of a token before it is signed.
type Claim func(*authn.Claims)

// Permissions are what the token's user may do.
func Permissions(permissions ...string) Claim {
	return func(c *authn.Claims) { c.Permissions = permissions }
}

// SignedIn is how and when the token's user signed in: methods such as "pwd" or
// [authn.MethodAPIKey].
func SignedIn(at time.Time, methods ...string) Claim {
	return func(c *authn.Claims) { c.AMR, c.AuthTime = methods, jwt.NewNumericDate(at) }
}

// Token returns a valid token of user, for one hour and a session of its own.
// Without claims it has no permissions.
func (i *Issuer) Token(t testing.TB, user uuid.UUID, claims ...Claim) string {
	t.Helper()
	now := time.Now()
	c := authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: i.URL, Audience: jwt.ClaimStrings{authn.Audience}, Subject: user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
		},
		SessionID: uuid.NewString(),
	}
	for _, change := range claims {
		change(&c)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	token.Header["typ"], token.Header["kid"] = authn.TokenType, keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// As returns a context for calls with a Token of user.
func (i *Issuer) As(t testing.TB, user uuid.UUID, claims ...Claim) context.Context {
	t.Helper()
	return grpcclient.WithToken(t.Context(), i.Token(t, user, claims...))
}

// UserID returns the user whose token calls with ctx carry.
func UserID(ctx context.Context, t testing.TB) string {
	t.Helper()
	md, _ := metadata.FromOutgoingContext(ctx)
	header := md.Get("authorization")
	if len(header) != 1 {
		t.Fatalf("%d authorization headers in the context, want 1", len(header))
	}
	var claims authn.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(header[0], "Bearer "), &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Subject
}
