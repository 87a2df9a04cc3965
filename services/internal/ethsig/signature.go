package ethsig

import (
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

const (
	// keySignatureSize is the length in bytes of a signature that a private key
	// made: r, s and v.
	keySignatureSize = 65
	// compactSize is its length in the compact form (EIP-2098): r, and s with v in
	// its highest bit.
	compactSize = 64
)

// IsKeySize reports whether sig is as long as one that a private key made, 65 or 64
// bytes. A contract's signature can have any length, these as well.
func IsKeySize(sig []byte) bool { return len(sig) == keySignatureSize || len(sig) == compactSize }

// HashMessage returns the digest that a wallet signs for a message (EIP-191,
// version 0x45, "personal_sign").
func HashMessage(message string) [32]byte {
	return keccak256([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(message))), []byte(message))
}

// ParseSignature reads a signature in hexadecimal after 0x. An empty one, "" or
// "0x", is that of a contract wallet whose owners have signed on chain. The error is
// a rule without a subject ("must be …").
func ParseSignature(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	digits, ok := strings.CutPrefix(text, "0x")
	sig, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return nil, errors.New("must be 0x and hexadecimal digits, two a byte")
	}
	if IsUndeployed(sig) {
		if _, err := Unwrap(sig); err != nil {
			return nil, err
		}
	}
	return sig, nil
}

// RecoverAddress returns the address of the key that signed digest, and false
// when sig is no valid signature of a key: r, s and v, where v is 0 and 1 or 27
// and 28, or 64 bytes in the compact form of EIP-2098. A signature with an s in the
// upper half of the curve's order is refused (EIP-2).
func RecoverAddress(digest [32]byte, sig []byte) (Address, bool) {
	if len(sig) == compactSize {
		v := sig[32] >> 7
		sig = append(slices.Clone(sig), v)
		sig[32] &= 0x7f
	}
	if len(sig) != keySignatureSize {
		return Address{}, false
	}
	v := sig[64]
	if v >= 27 {
		v -= 27
	}
	var s secp256k1.ModNScalar
	if v > 1 || s.SetByteSlice(sig[32:64]) || s.IsOverHalfOrder() {
		return Address{}, false
	}
	key, _, err := ecdsa.RecoverCompact(append([]byte{27 + v}, sig[:64]...), digest[:])
	if err != nil {
		return Address{}, false
	}
	sum := keccak256(key.SerializeUncompressed()[1:])
	return Address(sum[12:]), true
}
