// Package ownership proves that a wallet's account is its owner's, by a signature.
//
// It promises: a message proves once, within 15 minutes, and only for the owner and the
// wallet that it was issued for; of several proofs with one message at once one
// succeeds. Its statement says its purpose, and no sign-in of auth accepts it. A
// signature that is not the account's uses the message up; an outage of nodes doesn't.
// An account that auth has as an identity of the owner needs no signature.
//
// Limits: those of package ethsig. The proof is of the time at which it was made. A
// message that the owners of a contract wallet sign on chain has to be signed and
// finished within the 15 minutes.
package ownership

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/eip4361"
	"github.com/purserhq/purser/services/internal/ethsig"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// messageTTL is how long a message can be used.
const messageTTL = 15 * time.Minute

// Challenge is a message that a wallet's account is to sign.
type Challenge struct {
	Message string
	Expires time.Time
}

// Store has the wallets and their challenges, at most one a wallet.
type Store interface {
	ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error)
	// PutChallenge stores the wallet's challenge in place of the one before.
	// errs.NotFound without the wallet.
	PutChallenge(ctx context.Context, owner, id uuid.UUID, c Challenge) error
	// Challenge returns the wallet's challenge, the zero one if there is none.
	Challenge(ctx context.Context, owner, id uuid.UUID) (Challenge, error)
	// DropChallenge removes the wallet's challenge if it still has this message.
	DropChallenge(ctx context.Context, owner, id uuid.UUID, message string) error
	// Prove removes the wallet's challenge and stores the proof. ErrNoChallenge when the
	// wallet's challenge no longer has this message. r is as in wallet.Store.
	Prove(ctx context.Context, owner, id uuid.UUID, message string, p wallet.Proof,
		r *requests.Request) (wallet.Wallet, error)
	// ProveByIdentity stores a proof without a challenge, unless the wallet has a proof, and
	// returns the wallet. errs.NotFound without it.
	ProveByIdentity(ctx context.Context, owner, id uuid.UUID, p wallet.Proof) (wallet.Wallet, error)
	// Answered returns what Prove returned for an earlier request with the same id, and
	// false if there was none.
	Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (wallet.Wallet, bool, error)
}

// ErrNoChallenge is about a challenge that is no longer there.
var ErrNoChallenge = errors.New("no such challenge")

// Linked returns whether an account is an identity of the user of the call in ctx. It is
// false where that can't be known.
type Linked func(ctx context.Context, a caip.Account) bool

// Service is the rules. It is safe for concurrent use.
type Service struct {
	store     Store
	contracts ethsig.Verifier
	linked    Linked
	site      eip4361.Site
	now       func() time.Time
}

// NewService returns the rules over a store, for messages of a site. Without linked every
// proof needs a signature.
func NewService(s Store, v ethsig.Verifier, linked Linked, site eip4361.Site, now func() time.Time) *Service {
	return &Service{store: s, contracts: v, linked: linked, site: site, now: now}
}

// Start returns a message for the account of the owner's wallet to sign; or the wallet,
// which has its proof, if the account is linked to the caller's user.
// errs.NotFound; errs.FailedPrecondition (OWNERSHIP_PROOF_DISABLED).
func (s *Service) Start(ctx context.Context, owner, id uuid.UUID) (Challenge, *wallet.Wallet, error) {
	w, err := s.store.ByID(ctx, owner, id)
	if err != nil {
		return Challenge{}, nil, err
	}
	if s.linked != nil && s.linked(ctx, w.Account) {
		w, err := s.store.ProveByIdentity(ctx, owner, id, wallet.Proof{By: wallet.ByIdentity, At: s.proofTime()})
		w.Sync = w.Sync.AsOf(s.now())
		return Challenge{}, &w, err
	}
	c, err := s.challenge(ctx, owner, w)
	return c, nil, err
}

// challenge stores and returns a message for the account of the owner's wallet to sign.
func (s *Service) challenge(ctx context.Context, owner uuid.UUID, w wallet.Wallet) (Challenge, error) {
	if s.site.Domain == "" {
		return Challenge{}, errs.FailedPrecondition("OWNERSHIP_PROOF_DISABLED",
			"proving the ownership of wallets by a signature is not configured (PURSER_SIWE_DOMAIN), and the account "+
				"is not linked to the caller in auth (IdentityService.LinkWallet)")
	}
	expires := eip4361.NewTime(s.now().Add(messageTTL))
	statement := "Prove to the user " + owner.String() + " of this site that this account is theirs, as wallet " +
		w.ID.String() + ". This is no sign-in."
	m := eip4361.Message{
		Domain: s.site.Domain, Address: ethsig.Address(w.Account.Address), Statement: &statement,
		URI: s.site.PageURI(), Version: "1", ChainID: w.Account.Chain, Nonce: rand.Text(),
		IssuedAt: eip4361.NewTime(s.now()), Expires: &expires,
	}
	c := Challenge{Message: m.String(), Expires: expires.Time}
	return c, s.store.PutChallenge(ctx, owner, w.ID, c)
}

// CheckSignature returns errs.Invalid for a signature that is none.
func CheckSignature(signature string) ([]byte, error) {
	sig, err := ethsig.ParseSignature(signature)
	if err != nil {
		return nil, errs.Invalid("signature", err.Error())
	}
	return sig, nil
}

// Finish proves the ownership of the owner's wallet by its account's signature of the
// message of Start. errs.NotFound; errs.Invalid names signature;
// errs.FailedPrecondition: OWNERSHIP_MESSAGE_INVALID, OWNERSHIP_SIGNATURE_INVALID; or
// as ethsig.VerifySigner. A call with the request of an earlier one, uuid.Nil for none,
// returns what that one returned.
func (s *Service) Finish(ctx context.Context, owner, id uuid.UUID, message, signature string, request uuid.UUID) (
	wallet.Wallet, error) {
	sig, err := CheckSignature(signature)
	if err != nil {
		return wallet.Wallet{}, err
	}
	r := requests.New(request, "FinishOwnershipProof", id.String(), message, signature)
	c, err := s.store.Challenge(ctx, owner, id)
	if err != nil {
		return wallet.Wallet{}, err
	}
	if c.Message == "" || c.Message != message || !s.now().Before(c.Expires) {
		return s.withoutChallenge(ctx, owner, r)
	}
	w, err := s.store.ByID(ctx, owner, id)
	if err != nil {
		return wallet.Wallet{}, err
	}
	by, err := ethsig.VerifySigner(ctx, s.contracts, ethsig.Claim{ChainID: w.Account.Chain,
		Signer: ethsig.Address(w.Account.Address), Digest: ethsig.HashMessage(message), Signature: sig})
	if errors.Is(err, ethsig.ErrNotSigned) {
		if err := s.store.DropChallenge(ctx, owner, id, message); err != nil {
			return wallet.Wallet{}, err
		}
		return wallet.Wallet{}, errs.FailedPrecondition("OWNERSHIP_SIGNATURE_INVALID", "the signature is not that of "+
			"the wallet's account, or not of this message; begin again with StartOwnershipProof")
	}
	if err != nil {
		return wallet.Wallet{}, err
	}
	proof := wallet.Proof{By: wallet.ByKey, At: s.proofTime()}
	if by == ethsig.ByContract {
		proof.By = wallet.ByContract
	}
	w, err = s.store.Prove(ctx, owner, id, message, proof, r)
	if errors.Is(err, ErrNoChallenge) {
		return wallet.Wallet{}, noMessage()
	}
	w.Sync = w.Sync.AsOf(s.now())
	return w, err
}

// proofTime is the time of a proof made now, as the store keeps it.
func (s *Service) proofTime() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// withoutChallenge answers a message that is not the wallet's: as before, if it is that
// of an earlier request.
func (s *Service) withoutChallenge(ctx context.Context, owner uuid.UUID, r *requests.Request) (wallet.Wallet, error) {
	if r != nil {
		if w, ok, err := s.store.Answered(ctx, owner, r); ok || err != nil {
			w.Sync = w.Sync.AsOf(s.now())
			return w, err
		}
	}
	return wallet.Wallet{}, noMessage()
}

func noMessage() error {
	return errs.FailedPrecondition("OWNERSHIP_MESSAGE_INVALID", "the message is not the one to sign for this wallet: "+
		"it was used, has expired, was replaced by a newer one, or is of another wallet; begin again with "+
		"StartOwnershipProof")
}
