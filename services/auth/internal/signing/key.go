package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm that keys are made for (RFC 8037).
const Algorithm = "EdDSA"

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
	// Public is the 32 bytes of an Ed25519 public key.
	Public ed25519.PublicKey
	// Sealed and Wrapped are Sealer's output for the 32-byte seed.
	Sealed, Wrapped []byte
	PublishedAt     time.Time
	ActivatedAt     time.Time
	RetiringAt      time.Time
	// Waived: promoted before every verifier could know it.
	Waived bool
}

// generate makes a key and seals its private half.
func generate(s *Sealer, issuer string, state State) (Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("generate key: %w", err)
	}
	kid, err := thumbprint(public)
	if err != nil {
		return Key{}, err
	}
	k := Key{KID: kid, Algorithm: Algorithm, State: state, Public: public}
	k.Sealed, k.Wrapped, err = s.Seal(private.Seed(), binding(issuer, k))
	return k, err
}

// private opens the key for signing.
func (k Key) private(s *Sealer, issuer string) (ed25519.PrivateKey, error) {
	seed, err := s.Open(k.Sealed, k.Wrapped, binding(issuer, k))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KID, err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("key %s: seed of %d bytes", k.KID, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !private.Public().(ed25519.PublicKey).Equal(k.Public) {
		return nil, fmt.Errorf("key %s: private and public halves differ", k.KID)
	}
	return private, nil
}

// binding ties a sealed key to its row, so that none can be passed off for
// another.
func binding(issuer string, k Key) []byte {
	return []byte(issuer + "|" + k.KID + "|" + k.Algorithm)
}

func thumbprint(public ed25519.PublicKey) (string, error) {
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
