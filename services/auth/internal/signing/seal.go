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

// Sealer encrypts secrets at rest by envelope encryption: AES-256-GCM under a
// data key that is used once, which is wrapped by the key-encryption key (NIST SP
// 800-38D, with random 96-bit nonces). Data keys that a previous key-encryption
// key wrapped can be opened; new ones are wrapped by the current one only. It is
// safe for concurrent use.
type Sealer struct {
	kek      cipher.AEAD
	previous []cipher.AEAD
}

// NewSealer takes the current key-encryption key, and the previous ones that rows
// may still be wrapped by, each of exactly KeySize bytes.
func NewSealer(kek []byte, previous ...[]byte) (*Sealer, error) {
	s := &Sealer{}
	for i, key := range append([][]byte{kek}, previous...) {
		if len(key) != KeySize {
			return nil, fmt.Errorf("the key-encryption key has %d bytes, not %d", len(key), KeySize)
		}
		a, err := gcm(key)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			s.kek = a
			continue
		}
		s.previous = append(s.previous, a)
	}
	return s, nil
}

// Seal encrypts secret under a new data key, and returns that key wrapped.
// binding names the row that it is for, and has to be given to Open.
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

// Open decrypts the results of Seal. It fails with another binding.
func (s *Sealer) Open(sealed, wrapped, binding []byte) ([]byte, error) {
	dataKey, _, err := s.unwrap(wrapped, binding)
	if err != nil {
		return nil, err
	}
	a, err := gcm(dataKey)
	if err != nil {
		return nil, err
	}
	return open(a, sealed, binding)
}

// Current reports whether wrapped is wrapped by the current key-encryption key.
// It fails when no known key unwraps it.
func (s *Sealer) Current(wrapped, binding []byte) (bool, error) {
	_, current, err := s.unwrap(wrapped, binding)
	return current, err
}

// Rewrap wraps the data key of wrapped by the current key-encryption key; nil when
// it is already. The ciphertext under the data key stays valid.
func (s *Sealer) Rewrap(wrapped, binding []byte) ([]byte, error) {
	dataKey, current, err := s.unwrap(wrapped, binding)
	if err != nil || current {
		return nil, err
	}
	return seal(s.kek, dataKey, binding), nil
}

func (s *Sealer) unwrap(wrapped, binding []byte) (dataKey []byte, current bool, err error) {
	if dataKey, err = open(s.kek, wrapped, binding); err == nil {
		return dataKey, true, nil
	}
	for _, kek := range s.previous {
		if dataKey, e := open(kek, wrapped, binding); e == nil {
			return dataKey, false, nil
		}
	}
	return nil, false, fmt.Errorf("unwrap with this key-encryption key: %w", err)
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
		return nil, errors.New("sealed bytes can't be opened")
	}
	return plain, nil
}
