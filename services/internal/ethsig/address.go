package ethsig

import (
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/crypto/sha3"
)

// Address is the address of an account or a contract on an EVM chain.
type Address [20]byte

// ParseAddress reads an address: with its letters in the case of its checksum
// (EIP-55), or all in lower or all in upper case, which carries no checksum. The
// error is a rule without a subject ("must be …").
func ParseAddress(s string) (Address, error) {
	var a Address
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 2*len(a) {
		return a, errors.New("must be 0x and 40 hexadecimal digits")
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return Address{}, errors.New("must be 0x and 40 hexadecimal digits")
	}
	if a.String() != s && strings.ToLower(digits) != digits && strings.ToUpper(digits) != digits {
		return Address{}, errors.New("must have its letters in the case of its checksum (EIP-55), " +
			"or all in lower case")
	}
	return a, nil
}

// String returns the address with its EIP-55 checksum.
func (a Address) String() string {
	text := []byte(hex.EncodeToString(a[:]))
	sum := keccak256(text)
	for i, c := range text {
		if c >= 'a' && sum[i/2]>>(4*(1-i%2))&0xf >= 8 {
			text[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(text)
}

// Lower returns the address in lower case, without a checksum.
func (a Address) Lower() string { return "0x" + hex.EncodeToString(a[:]) }

func keccak256(parts ...[]byte) [32]byte {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		_, _ = h.Write(p) // a hash.Hash never returns an error
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
