package probe

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/purserhq/purser/services/internal/dependency"
)

// Issuer asks for the name of the issuer of a key set: what the discovery document beside
// the key set says (RFC 8414, OpenID Connect Discovery). It returns "" when there is no
// such document, or the key set isn't where a document would be looked for. transport is as in
// KeySet.
func Issuer(ctx context.Context, transport http.RoundTripper, keySet string) (string, error) {
	base, ok := strings.CutSuffix(keySet, "/.well-known/jwks.json")
	if !ok {
		return "", nil
	}
	var document struct {
		Issuer string `json:"issuer"`
	}
	err := getOver(ctx, over(transport), base+"/.well-known/openid-configuration", &document)
	var failed *dependency.Error
	if errors.As(err, &failed) && failed.Reason == "HTTP_STATUS" && strings.HasSuffix(failed.Error(), " 404") {
		return "", nil
	}
	return document.Issuer, err
}
