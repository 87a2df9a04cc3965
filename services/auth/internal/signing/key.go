package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// State of a key in its life.
type State string

// The states, in the order of a key's life; any can become COMPROMISED.
const (
	Published   State = "PUBLISHED" // in the key set, standing by
	Active      State = "ACTIVE"    // in the key set, signs
	Retiring    State = "RETIRING"  // in the key set, for the tokens that it signed
	Retired     State = "RETIRED"
	Compromised State = "COMPROMISED"
)

// Key is a signing key as it is stored: the private half sealed.
type Key struct {
	// KID is the RFC 7638 thumbprint.
	KID       string
	Algorithm string
	State     State
	// Public is the public half, as encodePublic has it.
	Public []byte
	// Sealed and Wrapped are Sealer's output for the private half; none once
	// that is erased.
	Sealed, Wrapped []byte
	PublishedAt     time.Time
	ActivatedAt     time.Time
	RetiringAt      time.Time
	// Waived: promoted before every verifier could know it.
	Waived bool
}

// generate makes a key for an algorithm and seals its private half.
func generate(s *Sealer, issuer string, state State, algorithm string) (Key, error) {
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
	k.Sealed, k.Wrapped, err = s.Seal(secret, binding(issuer, k))
	return k, err
}

// private opens the key for signing.
func (k Key) private(s *Sealer, issuer string) (crypto.Signer, error) {
	secret, err := s.Open(k.Sealed, k.Wrapped, binding(issuer, k))
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

// binding ties a sealed key to its row, so that none can be passed off for
// another.
func binding(issuer string, k Key) []byte {
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
