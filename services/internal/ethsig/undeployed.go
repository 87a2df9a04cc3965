package ethsig

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// validatorHex is the init code of the contract that verifies a signature of ERC-6492 while it is created. Source:
// ValidateSigOffchain of ERC-6492, as the npm package viem 2.38.0 (MIT) has it compiled (constants/contracts.ts,
// erc6492SignatureValidatorByteCode).
//
//go:embed erc6492_validator.hex
var validatorHex string

// suffix of a wrapped signature (ERC-6492).
const suffix = "\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92" +
	"\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92\x64\x92"

var (
	// errNotWrapped is about a signature without the suffix.
	errNotWrapped = errors.New("not wrapped")
	// errNoDeployment is about a node that doesn't run init code in eth_call.
	errNoDeployment = errors.New("the node does not run the deployment of a contract in eth_call")
)

// Undeployed is a signature of a contract that may not be deployed yet, with the
// call that deploys it (ERC-6492).
type Undeployed struct {
	Factory     Address
	FactoryData []byte
	// Signature is the contract's own.
	Signature []byte
}

// IsUndeployed reports whether sig ends as a signature that is wrapped for a
// contract wallet that is not deployed yet (ERC-6492).
func IsUndeployed(sig []byte) bool { return bytes.HasSuffix(sig, []byte(suffix)) }

// Unwrap reads a signature for which IsUndeployed is true: the ABI encoding of
// (address factory, bytes factoryData, bytes signature) before the suffix. The
// error is a rule without a subject ("must be …").
func Unwrap(sig []byte) (Undeployed, error) {
	if !IsUndeployed(sig) {
		return Undeployed{}, errNotWrapped
	}
	body := sig[:len(sig)-len(suffix)]
	wrong := errors.New("must have before the suffix of ERC-6492 the ABI encoding of (address factory, " +
		"bytes factoryData, bytes signature)")
	if len(body) < 3*32 || !bytes.Equal(body[:12], make([]byte, 12)) {
		return Undeployed{}, wrong
	}
	data, ok := bytesAt(body, body[32:64])
	inner, ok2 := bytesAt(body, body[64:96])
	if !ok || !ok2 {
		return Undeployed{}, wrong
	}
	return Undeployed{Factory: Address(body[12:32]), FactoryData: data, Signature: inner}, nil
}

// bytesAt returns the bytes of an ABI encoding that begin, with their length, where
// a word points to.
func bytesAt(body, pointer []byte) ([]byte, bool) {
	at, ok := small(pointer)
	if !ok || at > len(body)-32 {
		return nil, false
	}
	size, ok := small(body[at : at+32])
	if !ok || size > len(body)-at-32 {
		return nil, false
	}
	return body[at+32 : at+32+size], true
}

// small reads an ABI word, false for one of 2^31 or more.
func small(word []byte) (int, bool) {
	if !bytes.Equal(word[:28], make([]byte, 28)) || word[28] > 0x7f {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(word[28:])), true
}

// simulate verifies a wrapped signature of a contract that is not deployed: the node
// runs the deployment, and then the check, in a call that changes nothing.
func simulate(ctx context.Context, node Node, q question) (Verdict, error) {
	code, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(validatorHex), "0x"))
	if err != nil {
		return Refused, err // a build with another file
	}
	// Its constructor is (address signer, bytes32 hash, bytes signature).
	data := slices.Concat(code, make([]byte, 12), q.contract[:], q.digest[:], word(3*32), abiBytes(q.sig))
	result, err := call(ctx, node, nil, data)
	refusal := coded(nil)
	switch {
	case errors.Is(err, errContractFailed): // of the factory, too
		return Refused, nil
	case errors.As(err, &refusal) && isRefusal(refusal):
		return Refused, errors.Join(errNoDeployment, err)
	case err != nil:
		return Refused, err
	case result == "0x01":
		return Valid, nil
	case result == "0x00":
		return Refused, nil
	}
	return Refused, errNoDeployment // what the validator never answers: it did not run
}
