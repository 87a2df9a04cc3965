package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms for signing tokens, by their names in a JWS header (RFC 8037,
// RFC 7518).
const (
	EdDSA = "EdDSA" // Ed25519
	ES256 = "ES256" // ECDSA on P-256
	RS256 = "RS256" // RSA of rsaBits
)

// rsaBits is the length of RSA keys: 112 bits of security (NIST SP 800-57, part
// 1, table 2), enough for a key that is replaced every day.
const rsaBits = 2048

// Algorithms returns the values that Policy.Algorithm can have.
func Algorithms() []string { return []string{EdDSA, ES256, RS256} }

func methodOf(algorithm string) (jwt.SigningMethod, error) {
	switch algorithm {
	case EdDSA:
		return jwt.SigningMethodEdDSA, nil
	case ES256:
		return jwt.SigningMethodES256, nil
	case RS256:
		return jwt.SigningMethodRS256, nil
	}
	return nil, fmt.Errorf("algorithm %q is not one of %v", algorithm, Algorithms())
}

func newPrivate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return nil, fmt.Errorf("algorithm %q is not one of %v", algorithm, Algorithms())
}

// encodePublic returns a public key as it is stored: the 32 bytes of Ed25519, or
// PKIX for the other algorithms.
func encodePublic(public crypto.PublicKey) ([]byte, error) {
	if ed, ok := public.(ed25519.PublicKey); ok {
		return ed, nil
	}
	return x509.MarshalPKIXPublicKey(public)
}

// decodePublic reads the result of encodePublic, and checks that the key is one
// for the algorithm.
func decodePublic(algorithm string, stored []byte) (crypto.PublicKey, error) {
	if algorithm == EdDSA {
		if len(stored) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("public key has %d bytes, not %d", len(stored), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(stored), nil
	}
	public, err := x509.ParsePKIXPublicKey(stored)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if !fits(algorithm, public) {
		return nil, fmt.Errorf("a %T is not a key for %s", public, algorithm)
	}
	return public, nil
}

// encodePrivate returns a private key as it is sealed: the seed of Ed25519, or
// PKCS #8 for the other algorithms.
func encodePrivate(private crypto.Signer) ([]byte, error) {
	if ed, ok := private.(ed25519.PrivateKey); ok {
		return ed.Seed(), nil
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

// decodePrivate reads the result of encodePrivate, and checks that the key is one
// for the algorithm.
func decodePrivate(algorithm string, secret []byte) (crypto.Signer, error) {
	if algorithm == EdDSA {
		if len(secret) != ed25519.SeedSize {
			return nil, fmt.Errorf("seed has %d bytes, not %d", len(secret), ed25519.SeedSize)
		}
		return ed25519.NewKeyFromSeed(secret), nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok || !fits(algorithm, private.Public()) {
		return nil, fmt.Errorf("a %T is not a key for %s", parsed, algorithm)
	}
	return private, nil
}

func fits(algorithm string, public crypto.PublicKey) bool {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return algorithm == EdDSA
	case *ecdsa.PublicKey:
		return algorithm == ES256 && k.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return algorithm == RS256 && k.N.BitLen() >= rsaBits
	}
	return false
}
