package ethsig

import (
	"context"
	"errors"
	"fmt"

	"github.com/purserhq/purser/pkg/errs"
)

// ErrNotSigned is about a signature that is not the signer's, or not of this digest.
var ErrNotSigned = errors.New("not signed by this address")

// Claim says that an address signed a digest.
type Claim struct {
	ChainID   uint64
	Signer    Address
	Digest    [32]byte
	Signature []byte
}

// By is what a signature was verified by.
type By int

// A key signs for all chains, a contract for its own.
const (
	ByKey By = iota + 1
	ByContract
)

// Verifier verifies signatures of contract wallets; *Contracts is one.
type Verifier interface {
	// Verify asks the contract at an address whether it accepts sig for digest.
	Verify(ctx context.Context, chainID uint64, contract Address, digest [32]byte, sig []byte) (Verdict, error)
}

// VerifySigner verifies a claim, by the key of the address or by the contract there. The
// error is ErrNotSigned; errs.Invalid on signature for an empty one that no contract can
// have accepted; or as [Contracts.Verify].
func VerifySigner(ctx context.Context, v Verifier, c Claim) (By, error) {
	if by, ok := RecoverAddress(c.Digest, c.Signature); ok && by == c.Signer {
		return ByKey, nil
	}
	verdict, err := v.Verify(ctx, c.ChainID, c.Signer, c.Digest, c.Signature)
	if e := errs.As(err); e != nil && e.Reason == "CHAIN_NOT_CONFIGURED" {
		switch {
		case len(c.Signature) == 0:
			return 0, noSignature(c, "no node is configured for that chain")
		case IsKeySize(c.Signature): // most likely a wrong signature of an account with a key
			verdict, err = Refused, nil
		}
	}
	switch {
	case err != nil:
		return 0, err
	case verdict == NoContract && len(c.Signature) == 0:
		return 0, noSignature(c, "there is no contract at the address")
	case verdict != Valid:
		return 0, ErrNotSigned
	}
	return ByContract, nil
}

// noSignature is the answer to an empty signature that no contract can have accepted.
func noSignature(c Claim, because string) error {
	return errs.Invalid("signature", fmt.Sprintf("must have 64 or 65 bytes, got none, as only a contract wallet on "+
		"chain eip155:%d may whose owners have signed on chain: %s", c.ChainID, because))
}
