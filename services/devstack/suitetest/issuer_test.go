package suitetest

import (
	"fmt"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// A name that leads nowhere, and a path on the port: all three services take the tokens, and discovery names a key set
// that answers.
func TestTheIssuerMayBeAnyURL(t *testing.T) {
	t.Parallel()
	port := freePorts(t) + 4
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for name, tc := range map[string]struct{ issuer, base string }{
		"a name":                  {"https://purser.invalid", ""},
		"a path":                  {"http://" + addr + "/tenant", "http://" + addr + "/tenant"},
		"another host's spelling": {"", fmt.Sprintf("http://localhost:%d", port)},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(o *suite.Options) { o.Issuer, o.BaseURL, o.Ports.AuthHTTP = tc.issuer, tc.base, port })
			var document struct {
				Issuer string
				Keys   string `json:"jwks_uri"`
			}
			getJSON(t, "http://"+addr+"/.well-known/openid-configuration", &document)
			var set struct{ Keys []struct{ Kid string } }
			getJSON(t, document.Keys, &set)
			if document.Issuer != s.Issuer() || len(set.Keys) == 0 || tc.issuer != "" && s.Issuer() != tc.issuer {
				t.Errorf("discovery: %+v, keys %+v", document, set)
			}
			c := dial(t, s.Endpoints)
			ctx, tokens := signIn(t, c)
			claims := authn.Claims{}
			_, _, err := jwt.NewParser().ParseUnverified(tokens.GetAccessToken(), &claims)
			if err != nil || claims.Issuer != s.Issuer() {
				t.Errorf("the token is of %q, %v", claims.Issuer, err)
			}
			if _, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{}); err != nil {
				t.Error(err)
			}
			if end := browse(t, s.HostedStart("local"), "ada"); end.Query().Get("code") == "" {
				t.Error("no sign-in on the hosted pages:", end)
			}
		})
	}
}
