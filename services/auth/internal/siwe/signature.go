package siwe

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/purserhq/purser/pkg/errs"
)

// signatureSize is of one of an account with a key: r, s and v.
const signatureSize = 65

// hash is what a wallet signs of a message (EIP-191, version 0x45).
func hash(message string) [32]byte {
	return keccak([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(message))), []byte(message))
}

// parseSignature reads 0x and hexadecimal digits.
func parseSignature(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	sig, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sig) == 0 {
		return nil, errs.Invalid("signature", "must be 0x and hexadecimal digits, two a byte")
	}
	return sig, nil
}

// signer returns the address whose key made a signature of r, s and v. Of the
// two signatures that every one can be turned into, only that with the lower s
// is taken (EIP-2), so that there is one.
func signer(digest [32]byte, sig []byte) (Address, bool) {
	if len(sig) != signatureSize {
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
	sum := keccak(key.SerializeUncompressed()[1:])
	return Address(sum[12:]), true
}

// undeployed reports whether a signature is one of a contract that isn't there
// yet (ERC-6492).
func undeployed(sig []byte) bool {
	return bytes.HasSuffix(sig, bytes.Repeat([]byte{0x64, 0x92}, 16))
}
