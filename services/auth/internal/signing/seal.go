package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// KeySize of the key-encryption key, in bytes.
const KeySize = 32

// Sealer keeps private keys unreadable at rest: AES-256-GCM under a data key
// of each row's own, wrapped by the key-encryption key (NIST SP 800-38D, with
// random 96-bit nonces; each data key seals once). It is safe for concurrent
// use.
type Sealer struct{ kek cipher.AEAD }

// NewSealer takes the key-encryption key, exactly KeySize bytes.
func NewSealer(kek []byte) (*Sealer, error) {
	if len(kek) != KeySize {
		return nil, fmt.Errorf("the key-encryption key has %d bytes, not %d", len(kek), KeySize)
	}
	a, err := gcm(kek)
	if err != nil {
		return nil, err
	}
	return &Sealer{kek: a}, nil
}

// Seal encrypts secret for the row that binding names.
func (s *Sealer) Seal(secret, binding []byte) (sealed, wrapped []byte, err error) {
	dataKey := make([]byte, KeySize)
	if _, err := rand.Read(dataKey); err != nil {
		return nil, nil, fmt.Errorf("data key: %w", err)
	}
	a, err := gcm(dataKey)
	if err != nil {
		return nil, nil, err
	}
	return seal(a, secret, binding), seal(s.kek, dataKey, binding), nil
}

// Open decrypts what Seal made, for the same binding only.
func (s *Sealer) Open(sealed, wrapped, binding []byte) ([]byte, error) {
	dataKey, err := open(s.kek, wrapped, binding)
	if err != nil {
		return nil, fmt.Errorf("unwrap with this key-encryption key: %w", err)
	}
	a, err := gcm(dataKey)
	if err != nil {
		return nil, err
	}
	return open(a, sealed, binding)
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func seal(a cipher.AEAD, plain, binding []byte) []byte { return a.Seal(nil, nil, plain, binding) }

func open(a cipher.AEAD, sealed, binding []byte) ([]byte, error) {
	plain, err := a.Open(nil, nil, sealed, binding)
	if err != nil {
		return nil, errors.New("sealed bytes do not open")
	}
	return plain, nil
}
