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
// random 96-bit nonces; each data key seals once). It reads what previous
// key-encryption keys wrapped, and wraps with the current one only. It is safe
// for concurrent use.
type Sealer struct {
	kek      cipher.AEAD
	previous []cipher.AEAD
}

// NewSealer takes the current key-encryption key and those before it that rows
// may still be under, each exactly KeySize bytes.
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

// Current reports whether wrapped is under the current key-encryption key. It
// fails when it is under none that is known.
func (s *Sealer) Current(wrapped, binding []byte) (bool, error) {
	_, current, err := s.unwrap(wrapped, binding)
	return current, err
}

// Rewrap returns wrapped under the current key-encryption key, and nil when it
// is already. What its data key seals stays as it is.
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
		return nil, errors.New("sealed bytes do not open")
	}
	return plain, nil
}
