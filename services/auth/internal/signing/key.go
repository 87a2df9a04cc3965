package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/purserhq/purser/services/internal/seal"
)

// State of a key in its life cycle.
type State string

// The states, in their order; a key in any of them can become REVOKED.
const (
	Standby  State = "STANDBY"  // in the key set, does not sign yet
	Active   State = "ACTIVE"   // in the key set, signs
	Retiring State = "RETIRING" // in the key set until the tokens that it signed expire
	Retired  State = "RETIRED"  // no longer in the key set
	Revoked  State = "REVOKED"  // removed from the key set at once
)

// Key is a signing key as it is stored, with its private half sealed.
type Key struct {
	// KID is the RFC 7638 thumbprint of the public half.
	KID       string
	Algorithm string
	State     State
	// Public is the public half as encodePublic returns it.
	Public []byte
	// Sealed and Wrapped are the results of Sealer.Seal for the private half;
	// empty once that is erased.
	Sealed, Wrapped []byte
	PublishedAt     time.Time
	ActivatedAt     time.Time
	RetiringAt      time.Time
	// PromotedEarly says that the key became ACTIVE less than PropagationTime after
	// its publication (see Step.PromotedEarly).
	PromotedEarly bool
}

// generate creates a key for an algorithm and seals its private half.
func generate(s *seal.Sealer, issuer string, state State, algorithm string) (Key, error) {
	private, err := newPrivate(algorithm)
	if err != nil {
		return Key{}, fmt.Errorf("generate key: %w", err)
	}
	kid, err := thumbprint(private.Public())
	if err != nil {
		return Key{}, err
	}
	public, err := encodePublic(private.Public())
	if err != nil {
		return Key{}, fmt.Errorf("generate key: %w", err)
	}
	secret, err := encodePrivate(private)
	if err != nil {
		return Key{}, fmt.Errorf("generate key: %w", err)
	}
	k := Key{KID: kid, Algorithm: algorithm, State: state, Public: public}
	k.Sealed, k.Wrapped, err = s.Seal(secret, keyAAD(issuer, k))
	return k, err
}

// private opens the private half, and checks that it belongs to the public one.
func (k Key) private(s *seal.Sealer, issuer string) (crypto.Signer, error) {
	secret, err := s.Open(k.Sealed, k.Wrapped, keyAAD(issuer, k))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KID, err)
	}
	private, err := decodePrivate(k.Algorithm, secret)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KID, err)
	}
	public, err := encodePublic(private.Public())
	if err != nil || !bytes.Equal(public, k.Public) {
		return nil, fmt.Errorf("key %s: private and public halves differ", k.KID)
	}
	return private, nil
}

// keyAAD is the additional authenticated data of a sealed key. It names the key's
// row, so that rows can't be swapped in the database.
func keyAAD(issuer string, k Key) []byte {
	return []byte(issuer + "|" + k.KID + "|" + k.Algorithm)
}

func thumbprint(public crypto.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: public}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

func etagOf(document []byte) string {
	sum := sha256.Sum256(document)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}
