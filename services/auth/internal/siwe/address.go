package siwe

import (
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/crypto/sha3"
)

// Address is of an account of an EVM chain.
type Address [20]byte

// ParseAddress reads an address in EIP-55 form: with the checksum that its
// letters' case is, as EIP-4361 asks.
func ParseAddress(s string) (Address, error) {
	var a Address
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 2*len(a) {
		return a, errors.New("must be 0x and 40 hexadecimal digits")
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return Address{}, errors.New("must be 0x and 40 hexadecimal digits")
	}
	if a.String() != s {
		return Address{}, errors.New("must have its letters in the case of the EIP-55 checksum")
	}
	return a, nil
}

// String is the EIP-55 form.
func (a Address) String() string {
	text := []byte(hex.EncodeToString(a[:]))
	sum := keccak(text)
	for i, c := range text {
		if c >= 'a' && sum[i/2]>>(4*(1-i%2))&0xf >= 8 {
			text[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(text)
}

// lower is the form that identities are stored by.
func (a Address) lower() string { return "0x" + hex.EncodeToString(a[:]) }

func keccak(parts ...[]byte) [32]byte {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		_, _ = h.Write(p) // a hash takes everything
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
