package authn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// parseKeySet returns the signing keys of a JWKS document by their kid. It skips
// private keys and those of algorithms that Purser doesn't sign with. A set
// without a usable key, or in which a name stands twice, is an error: no issuer serves
// one on purpose.
func parseKeySet(body []byte) (map[string]Key, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	keys := make(map[string]Key, len(doc.Keys))
	for _, raw := range doc.Keys {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(raw); err != nil || jwk.KeyID == "" || !jwk.IsPublic() {
			continue
		}
		if jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		if alg := algorithm(jwk); alg != "" {
			keys[jwk.KeyID] = Key{Algorithm: alg, Public: jwk.Key}
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no usable key")
	}
	return keys, nil
}

// algorithm returns the JWS algorithm of a key; "" for one that is not accepted.
func algorithm(jwk jose.JSONWebKey) string {
	var alg string
	switch k := jwk.Key.(type) {
	case ed25519.PublicKey:
		alg = "EdDSA"
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize == 256 {
			alg = "ES256"
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			alg = "RS256"
		}
	}
	if jwk.Algorithm != "" && jwk.Algorithm != alg {
		return ""
	}
	return alg
}
