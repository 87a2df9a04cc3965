package ethsig_test

import (
	"slices"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/purserhq/purser/services/internal/ethsig"
)

func TestAKeysAddressIsRecoveredFromItsSignature(t *testing.T) {
	key := secp256k1.PrivKeyFromBytes([]byte{31: 1})
	const address = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf" // of the private key 1
	digest := ethsig.HashMessage("hello")
	compact := ecdsa.SignCompact(key, digest[:], false)
	sig := slices.Concat(compact[1:], compact[:1])
	low := slices.Clone(sig)
	low[64] -= 27
	for name, s := range map[string][]byte{"v of 27 or 28": sig, "v of 0 or 1": low} {
		if got, ok := ethsig.RecoverAddress(digest, s); !ok || got.String() != address {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
	if got, _ := ethsig.RecoverAddress(ethsig.HashMessage("hello!"), sig); got.String() == address {
		t.Error("the signature of another message was accepted")
	}
	var s secp256k1.ModNScalar
	s.SetByteSlice(sig[32:64])
	high := s.Negate().Bytes()
	for name, s := range map[string][]byte{
		"the same signature with the higher s": append(append(sig[:32:32], high[:]...), 55-sig[64]),
		"v of 2":                               append(sig[:64:64], 2),
		"64 bytes":                             sig[:64],
		"66 bytes":                             append(sig[:65:65], 0),
		"zeros":                                make([]byte, 65),
	} {
		if got, ok := ethsig.RecoverAddress(digest, s); ok {
			t.Errorf("%s was accepted as of %s", name, got)
		}
	}
}

func TestASignatureIsHexadecimal(t *testing.T) {
	if sig, err := ethsig.ParseSignature("0x00fF"); err != nil || string(sig) != "\x00\xff" {
		t.Error(sig, err)
	}
	for _, text := range []string{"", "0x", "00ff", "0x0", "0x0g", "0X00"} {
		if sig, err := ethsig.ParseSignature(text); err == nil {
			t.Errorf("%q was read as %x", text, sig)
		}
	}
}
