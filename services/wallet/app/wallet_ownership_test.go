package app_test

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/ethsig"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// signer is an account with a key; sign is personal_sign.
func signer(t *testing.T) (address string, sign func(message string) string) {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(key.PublicKey).Hex(), func(message string) string {
		digest := ethsig.HashMessage(message)
		sig, err := crypto.Sign(digest[:], key)
		if err != nil {
			t.Error(err)
		}
		return "0x" + hex.EncodeToString(sig)
	}
}

func (s service) message(ctx context.Context, t *testing.T, id string) string {
	t.Helper()
	got, err := s.wallets.StartOwnershipProof(ctx, &walletv1.StartOwnershipProofRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetMessage()
}

func (s service) prove(ctx context.Context, id, message, signature, request string) (*walletv1.Wallet, error) {
	got, err := s.wallets.FinishOwnershipProof(ctx, &walletv1.FinishOwnershipProofRequest{WalletId: id,
		Message: message, Signature: signature, RequestId: request})
	return got.GetWallet(), err
}

func TestAWalletIsProvenByASignatureOfItsKeyOnce(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	address, sign := signer(t)
	w := s.create(ctx, t, "eip155:1:"+address)
	if w.GetOwnership().GetState() != walletv1.OwnershipState_OWNERSHIP_STATE_WATCH_ONLY {
		t.Errorf("a new wallet is %v", w.GetOwnership())
	}
	m := s.message(ctx, t, w.GetId())
	for _, part := range []string{"app.example wants", address, "Prove to the user " + servicetest.UserID(ctx, t),
		w.GetId(), "This is no sign-in.", "Chain ID: 1", "URI: https://app.example"} {
		if !strings.Contains(m, part) {
			t.Errorf("%q doesn't stand in\n%s", part, m)
		}
	}
	const proofs = 8
	failures := make([]error, proofs)
	var all sync.WaitGroup
	for i := range proofs {
		all.Go(func() { _, failures[i] = s.prove(ctx, w.GetId(), m, sign(m), "") })
	}
	all.Wait()
	won := 0
	for _, err := range failures {
		if err == nil {
			won++
			continue
		}
		servicetest.WantError(t, err, errs.KindFailedPrecondition, "OWNERSHIP_MESSAGE_INVALID")
	}
	got, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})
	if o := got.GetWallet().GetOwnership(); err != nil || won != 1 || o.GetProveTime() == nil ||
		o.GetState() != walletv1.OwnershipState_OWNERSHIP_STATE_PROVEN ||
		o.GetProof() != walletv1.OwnershipProof_OWNERSHIP_PROOF_KEY || got.GetWallet().GetEtag() == w.GetEtag() {
		t.Errorf("%d proofs at once succeed, and the wallet is %v, %v", won, got, err)
	}
	request := uuid.NewString()
	m = s.message(ctx, t, w.GetId())
	first, err := s.prove(ctx, w.GetId(), m, sign(m), request)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.prove(ctx, w.GetId(), m, sign(m), request); err != nil || again.String() != first.String() {
		t.Errorf("a repeat is answered %v, %v, not %v", again, err, first)
	}
}

func TestNothingElseProvesAWallet(t *testing.T) {
	s := start(t)
	address, sign := signer(t)
	otherAddress, otherSign := signer(t)
	for name, tc := range map[string]struct {
		// forge proves the wallet id of ctx, or tries to; mallory has the wallets of both
		// accounts too.
		forge  func(ctx, mallory context.Context, id, otherID, theirID string) error
		reason string
	}{
		"another account's signature": {func(ctx, _ context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			_, err := s.prove(ctx, id, m, otherSign(m), "")
			return err
		}, "OWNERSHIP_SIGNATURE_INVALID"},
		"the message of another wallet": {func(ctx, _ context.Context, id, otherID, _ string) error {
			s.message(ctx, t, id)
			m := s.message(ctx, t, otherID)
			_, err := s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"another owner's message": {func(ctx, mallory context.Context, id, _, theirID string) error {
			s.message(ctx, t, id)
			m := s.message(mallory, t, theirID)
			_, err := s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"another owner's wallet": {func(ctx, mallory context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			_, err := s.prove(mallory, id, m, sign(m), "")
			return err
		}, "NOT_FOUND"},
		"a message that was replaced": {func(ctx, _ context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			s.message(ctx, t, id)
			_, err := s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"a message after a wrong signature": {func(ctx, _ context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			_, err := s.prove(ctx, id, m, otherSign(m), "")
			servicetest.WantError(t, err, errs.KindFailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID")
			_, err = s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"a message that has expired": {func(ctx, _ context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			s.exec(t, "UPDATE ownership_challenges SET expires_at = now() WHERE wallet_id = $1", id)
			_, err := s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"a message of one's own": {func(ctx, _ context.Context, id, _, _ string) error {
			m := strings.Replace(s.message(ctx, t, id), "no sign-in", "a sign-in", 1)
			_, err := s.prove(ctx, id, m, sign(m), "")
			return err
		}, "OWNERSHIP_MESSAGE_INVALID"},
		"an empty signature": {func(ctx, _ context.Context, id, _, _ string) error {
			m := s.message(ctx, t, id)
			_, err := s.prove(ctx, id, m, "", "")
			servicetest.WantViolation(t, err, "signature")
			return err
		}, "INVALID_ARGUMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, mallory := s.user(t), s.user(t)
			w, other := s.create(ctx, t, "eip155:1:"+address), s.create(ctx, t, "eip155:1:"+otherAddress)
			theirs := s.create(mallory, t, "eip155:1:"+address)
			err := tc.forge(ctx, mallory, w.GetId(), other.GetId(), theirs.GetId())
			if e := errs.As(err); e == nil || e.Reason != tc.reason {
				t.Errorf("answered %v, want %s", err, tc.reason)
			}
			got, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w.GetId()})
			if err != nil || got.GetWallet().GetOwnership().GetProveTime() != nil {
				t.Errorf("the wallet is %v, %v", got, err)
			}
		})
	}
}
