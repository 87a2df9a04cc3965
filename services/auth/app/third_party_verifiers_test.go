package app_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	jwtv5 "github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// Verifiers that Purser didn't write follow the issuer's own documents: go-oidc,
// which fetches the set for a key that it doesn't know, and jwx, which fetches
// it by its max-age, here at least every second, and never for a key.
func TestThirdPartyVerifiersAcceptTokensThroughRotations(t *testing.T) {
	t.Parallel() // it mostly waits
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // the service listens there
	base := "http://" + addr
	s := start(t, append(short(), "PURSER_HTTP_ADDR="+addr, "PURSER_ISSUER="+base)...)
	s.register(t, "ada@example.com")

	ctx := context.WithoutCancel(t.Context())
	provider, err := oidc.NewProvider(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	stock := provider.VerifierContext(ctx, &oidc.Config{ClientID: "purser",
		SupportedSigningAlgs: []string{oidc.EdDSA}})
	cache, err := jwk.NewCache(t.Context(), httprc.NewClient(httprc.WithHTTPClient(http.DefaultClient)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Shutdown(ctx) }()
	var document struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		t.Fatal(err)
	}
	if err := cache.Register(t.Context(), document.JWKSURI, jwk.WithMinInterval(time.Second),
		jwk.WithMaxInterval(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	set, err := cache.CachedSet(document.JWKSURI)
	if err != nil {
		t.Fatal(err)
	}

	rotations := testkit.Size(2, 10)
	refresh := s.login(t, "ada@example.com").GetRefreshToken()
	kids := map[string]bool{}
	verified := 0
	var last time.Time
	testkit.Eventually(t, 5*time.Minute, func() bool {
		if time.Since(last) < refreshEvery {
			return false
		}
		last = time.Now()
		resp, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: refresh})
		if err != nil {
			t.Fatal(err)
		}
		refresh = resp.GetTokens().GetRefreshToken()
		token := resp.GetTokens().GetAccessToken()
		if _, err := stock.Verify(t.Context(), token); err != nil {
			t.Fatalf("go-oidc after %d keys: %v", len(kids), err)
		}
		parsed, err := jwt.Parse([]byte(token), jwt.WithKeySet(set), jwt.WithIssuer(base), jwt.WithAudience("purser"))
		if err != nil {
			t.Fatalf("jwx after %d keys: %v", len(kids), err)
		}
		if _, ok := parsed.Subject(); !ok {
			t.Fatal("jwx found no subject")
		}
		verified++
		kids[kidOf(t, token)] = true
		return len(kids) > rotations
	})
	testkit.Figure(t, "%d tokens of %d keys, under a policy of a max-age of 2 s and a rotation every 6 s: go-oidc "+
		"and jwx (refetching every 1 to 2 s) took each", verified, len(kids))
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwtv5.NewParser().ParseUnverified(token, jwtv5.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header["kid"].(string)
}
