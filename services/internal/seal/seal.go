// Package seal encrypts secrets that a service keeps in its database.
//
// It promises: who reads the database without the key-encryption key learns nothing of a secret but its length; a
// sealed secret can't be moved to another row unnoticed; the key-encryption key can be replaced without encrypting the
// secrets again.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/purserhq/purser/pkg/config"
)

// KeySize of the key-encryption key, in bytes.
const KeySize = 32

// keyOf reads the setting of a name.
func keyOf(name string, s config.Secret) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s.Reveal())
	if err != nil || len(b) != KeySize {
		return nil, fmt.Errorf("%s must be %d bytes in base64 (head -c %d /dev/urandom | base64)", name, KeySize,
			KeySize)
	}
	return b, nil
}

// Keys reads the key-encryption key of the setting of a name, KeySize bytes in base64, and that of the setting with
// _PREVIOUS at its end, if it is set. The error names the setting.
func Keys(name string, current, previous config.Secret) (key []byte, older [][]byte, err error) {
	if key, err = keyOf(name, current); err != nil || previous == "" {
		return key, nil, err
	}
	before, err := keyOf(name+"_PREVIOUS", previous)
	return key, [][]byte{before}, err
}

// Sealer encrypts secrets at rest by envelope encryption: AES-256-GCM under a
// data key that is used once, which is wrapped by the key-encryption key (NIST SP
// 800-38D, with random 96-bit nonces). Data keys that a previous key-encryption
// key wrapped can be opened; new ones are wrapped by the current one only. It is
// safe for concurrent use.
type Sealer struct {
	kek      cipher.AEAD
	previous []cipher.AEAD
}

// New takes the current key-encryption key, and the previous ones that rows
// may still be wrapped by, each of exactly KeySize bytes.
func New(kek []byte, previous ...[]byte) (*Sealer, error) {
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
// aad is additional authenticated data that names the row: Open needs the same.
func (s *Sealer) Seal(secret, aad []byte) (sealed, wrapped []byte, err error) {
	dataKey := make([]byte, KeySize)
	if _, err := rand.Read(dataKey); err != nil {
		return nil, nil, fmt.Errorf("data key: %w", err)
	}
	a, err := gcm(dataKey)
	if err != nil {
		return nil, nil, err
	}
	return seal(a, secret, aad), seal(s.kek, dataKey, aad), nil
}

// Open decrypts the results of Seal. It fails when aad differs.
func (s *Sealer) Open(sealed, wrapped, aad []byte) ([]byte, error) {
	dataKey, _, err := s.unwrap(wrapped, aad)
	if err != nil {
		return nil, err
	}
	a, err := gcm(dataKey)
	if err != nil {
		return nil, err
	}
	return open(a, sealed, aad)
}

// IsCurrent reports whether wrapped is wrapped by the current key-encryption key.
// It fails when no known key unwraps it.
func (s *Sealer) IsCurrent(wrapped, aad []byte) (bool, error) {
	_, current, err := s.unwrap(wrapped, aad)
	return current, err
}

// Rewrap encrypts a wrapped data key under the current key-encryption key. It
// returns nil if it already is. What the data key encrypts stays valid.
func (s *Sealer) Rewrap(wrapped, aad []byte) ([]byte, error) {
	dataKey, current, err := s.unwrap(wrapped, aad)
	if err != nil || current {
		return nil, err
	}
	return seal(s.kek, dataKey, aad), nil
}

func (s *Sealer) unwrap(wrapped, aad []byte) (dataKey []byte, current bool, err error) {
	if dataKey, err = open(s.kek, wrapped, aad); err == nil {
		return dataKey, true, nil
	}
	for _, kek := range s.previous {
		if dataKey, e := open(kek, wrapped, aad); e == nil {
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

func seal(a cipher.AEAD, plain, aad []byte) []byte { return a.Seal(nil, nil, plain, aad) }

func open(a cipher.AEAD, sealed, aad []byte) ([]byte, error) {
	plain, err := a.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, errors.New("sealed bytes can't be opened")
	}
	return plain, nil
}
