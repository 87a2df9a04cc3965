package ethsig

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// KeySignatureSize is the length in bytes of a signature that a private key
// made: r, s and v. A contract's signature can have any length.
const KeySignatureSize = 65

// HashMessage returns the digest that a wallet signs for a message (EIP-191,
// version 0x45, "personal_sign").
func HashMessage(message string) [32]byte {
	return keccak256([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(message))), []byte(message))
}

// ParseSignature reads a signature of at least one byte in hexadecimal after
// 0x. The error is a rule without a subject ("must be …").
func ParseSignature(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	sig, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sig) == 0 {
		return nil, errors.New("must be 0x and hexadecimal digits, two a byte")
	}
	return sig, nil
}

// RecoverAddress returns the address of the key that signed digest, and false
// when sig is no valid signature of KeySignatureSize bytes. v may be 0 and 1 or
// 27 and 28. A signature with an s in the upper half of the curve's order is
// refused (EIP-2), so that no second signature can be derived from a valid one.
func RecoverAddress(digest [32]byte, sig []byte) (Address, bool) {
	if len(sig) != KeySignatureSize {
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

// IsUndeployed reports whether sig is wrapped for a contract wallet that is not
// deployed yet: it ends with the magic bytes of ERC-6492.
func IsUndeployed(sig []byte) bool {
	return bytes.HasSuffix(sig, bytes.Repeat([]byte{0x64, 0x92}, 16))
}
