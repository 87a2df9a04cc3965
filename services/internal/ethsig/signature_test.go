package ethsig_test

import (
	"slices"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"

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
	short := slices.Clone(sig[:64]) // EIP-2098
	short[32] |= low[64] << 7
	for name, s := range map[string][]byte{"v of 27 or 28": sig, "v of 0 or 1": low, "compact": short} {
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
	other := slices.Clone(short)
	other[32] ^= 0x80
	if got, _ := ethsig.RecoverAddress(digest, other); got.String() == address {
		t.Error("the compact form with the other v was accepted")
	}
	for name, s := range map[string][]byte{
		"the same signature with the higher s": append(append(sig[:32:32], high[:]...), 55-sig[64]),
		"v of 2":                               append(sig[:64:64], 2),
		"63 bytes":                             sig[:63],
		"66 bytes":                             append(sig[:65:65], 0),
		"zeros":                                make([]byte, 65),
	} {
		if got, ok := ethsig.RecoverAddress(digest, s); ok {
			t.Errorf("%s was accepted as of %s", name, got)
		}
	}
}

// The example of EIP-2098.
func TestACompactSignatureIsReadAsInItsStandard(t *testing.T) {
	sig, err := ethsig.ParseSignature("0x68a020a209d3d56c46f38cc50a33f704f4a9a10a59377f8dd762ac66910e9b90" +
		"7e865ad05c4035ab5792787d4a0297a43617ae897930a6fe4d822b8faea52064")
	if err != nil {
		t.Fatal(err)
	}
	key := secp256k1.PrivKeyFromBytes(slices.Concat(slices.Repeat([]byte{0x12, 0x34, 0x56, 0x78, 0x90}, 6),
		[]byte{0x12, 0x34}))
	pub := key.PubKey().SerializeUncompressed()
	h := sha3.NewLegacyKeccak256()
	_, _ = h.Write(pub[1:])
	want := ethsig.Address(h.Sum(nil)[12:])
	if got, ok := ethsig.RecoverAddress(ethsig.HashMessage("Hello World"), sig); !ok || got != want {
		t.Error(got, ok)
	}
}

func TestASignatureIsHexadecimal(t *testing.T) {
	for text, want := range map[string]string{"0x00fF": "\x00\xff", "": "", "0x": ""} {
		if sig, err := ethsig.ParseSignature(text); err != nil || string(sig) != want {
			t.Error(text, sig, err)
		}
	}
	for _, text := range []string{"00ff", "0x0", "0x0g", "0X00", "0X", " ", "0x 00"} {
		if sig, err := ethsig.ParseSignature(text); err == nil {
			t.Errorf("%q was read as %x", text, sig)
		}
	}
}
