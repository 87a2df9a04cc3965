package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// Token is a refresh token: 256 random bits in base64url.
type Token string

// Hash is the SHA-256 of a token, all that is ever stored of it. A token is
// random, so a fast hash is enough.
type Hash [sha256.Size]byte

// NewToken returns a fresh token.
func NewToken() Token {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return Token(base64.RawURLEncoding.EncodeToString(b))
}

// Hash returns what is stored.
func (t Token) Hash() Hash { return sha256.Sum256([]byte(t)) }

// seal makes next readable with t alone.
func (t Token) seal(next Token) ([]byte, error) {
	a, err := t.cipher()
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, []byte(next), nil), nil
}

// open reads what seal made.
func (t Token) open(sealed []byte) (Token, error) {
	a, err := t.cipher()
	if err != nil {
		return "", err
	}
	next, err := a.Open(nil, nil, sealed, nil)
	if err != nil {
		return "", errors.New("sealed successor does not open")
	}
	return Token(next), nil
}

func (t Token) cipher() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(t), nil, "purser refresh successor", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
