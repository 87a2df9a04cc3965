// Package siwe signs users in with wallets (EIP-4361).
//
// It promises: a message signs in once, within five minutes, for the address,
// the chain and the domain that it was made for. An account with a key is
// known by its signature (EIP-191). A contract's is asked of the contract
// (ERC-1271): of two nodes, which have to agree, where a chain has two.
//
// An account with a key is one identity on all chains, for the key is the same.
// A contract is one on its own chain only: at the same address of another
// chain somebody else may have put another one.
//
// Limits: a chain with a single node is believed what that says. Wallets that
// are not deployed yet (ERC-6492) are refused.
package siwe

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/challenge"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/internal/ethsig"
)

const (
	// Method is the amr of sessions that a wallet's signature began.
	Method = "wallet"
	// Provider is the identities' (CAIP-2's namespace).
	Provider = "eip155"
	life     = 5 * time.Minute
	// ahead is how far in the future a message may be issued: clocks differ.
	ahead = 30 * time.Second
	// statement that a wallet shows.
	statement = "Sign in with this wallet."
)

// Challenge is what a nonce was given for.
type Challenge struct {
	Address string // lower case
	ChainID uint64
}

// Contracts verifies signatures of contract wallets; *ethsig.Contracts is one.
type Contracts interface {
	// IsValidSignature reports whether the contract at an address accepts sig
	// for digest (ERC-1271); false when there is no contract.
	// errs.Unavailable (CHAIN_UNAVAILABLE) when too few nodes answer, or don't
	// agree; errs.FailedPrecondition (CHAIN_NOT_CONFIGURED).
	IsValidSignature(ctx context.Context, chainID uint64, contract ethsig.Address, digest [32]byte,
		sig []byte) (bool, error)
}

// Sessions begins sessions; *session.Service is one.
type Sessions interface {
	Begin(ctx context.Context, in session.SignIn) (session.Tokens, error)
}

// Site is what wallets sign in to.
type Site struct {
	// Domain is host, or host:port, of the page that asks for the signature;
	// wallets compare it. Signing in with wallets is off while it is empty.
	Domain string
	// URI of that page.
	URI    string
	Chains []uint64
}

// Deps are what the rules stand on.
type Deps struct {
	Nonces     challenge.Store[challenge.Kept[Challenge]]
	Contracts  Contracts
	Identities *identity.Service
	Sessions   Sessions
	Audit      audit.Recorder
	Now        func() time.Time
}

// Service is the rules of signing in with wallets.
type Service struct {
	Deps
	site   Site
	nonces *challenge.Box[Challenge]
}

// NewService returns the rules.
func NewService(d Deps, s Site) *Service {
	return &Service{Deps: d, site: s, nonces: challenge.NewBox(d.Nonces, life, d.Now)}
}

// Start returns the message for a wallet to sign, and until when it can be
// used. errs.Invalid names address or chain_id; errs.FailedPrecondition
// (WALLET_SIGN_IN_DISABLED).
func (s *Service) Start(ctx context.Context, address string, chain uint64) (string, time.Time, error) {
	if err := s.enabled(); err != nil {
		return "", time.Time{}, err
	}
	a, err := ethsig.ParseAddress(address)
	if err != nil {
		return "", time.Time{}, errs.Invalid("address", err.Error())
	}
	if !slices.Contains(s.site.Chains, chain) {
		return "", time.Time{}, errs.Invalid("chain_id", "must be one of those that are allowed (PURSER_SIWE_CHAINS)")
	}
	nonce := rand.Text()
	text, now := statement, s.Now()
	expires := NewTime(now.Add(life))
	m := Message{
		Domain: s.site.Domain, Address: a, Statement: &text, URI: s.site.URI, Version: "1", ChainID: chain,
		Nonce:    nonce,
		IssuedAt: NewTime(now), Expires: &expires,
	}
	if _, err := s.nonces.Put(ctx, nonce, Challenge{Address: a.Lower(), ChainID: chain}); err != nil {
		return "", time.Time{}, err
	}
	return m.String(), expires.Time, nil
}

// Finish starts a session for the account of the wallet that signed a message;
// there is one from the first time on. code is of the second factor. A message
// is used up but by CHAIN_UNAVAILABLE, and a second factor that is missing or
// wrong. errs.Invalid names what is wrong with message or signature;
// errs.Unauthenticated: WALLET_MESSAGE_EXPIRED, WALLET_MESSAGE_REFUSED,
// WALLET_NONCE_INVALID, WALLET_SIGNATURE_INVALID; errs.FailedPrecondition:
// WALLET_NOT_DEPLOYED, WALLET_SIGN_IN_DISABLED, CHAIN_NOT_CONFIGURED; or as
// session.Service.Begin.
func (s *Service) Finish(ctx context.Context, message, signature, code string) (tokens session.Tokens, err error) {
	begun := false
	err = s.use(ctx, message, signature, func(c identity.Claim) error {
		in, err := s.Identities.SignIn(ctx, c, false)
		if err != nil {
			return err
		}
		begun = true
		tokens, err = s.Sessions.Begin(ctx, session.SignIn{User: in.User, Methods: []string{Method}, Code: code,
			Proof: session.Proof{Identity: in.Identity}})
		return err
	})
	if begun {
		return tokens, err
	}
	return tokens, s.refused(ctx, err)
}

// Link gives the wallet that signed a message to a user, who can sign in with
// it from then on. Errors as Finish and identity.Service.Add.
func (s *Service) Link(ctx context.Context, user uuid.UUID, message, signature string) (linked identity.Identity,
	err error) {
	err = s.use(ctx, message, signature, func(c identity.Claim) error {
		linked, err = s.Identities.Add(ctx, user, c)
		return err
	})
	return linked, s.refused(ctx, err)
}

// use checks a signed message and lets then have whose it is, once.
func (s *Service) use(ctx context.Context, message, signature string, then func(identity.Claim) error) error {
	if err := s.enabled(); err != nil {
		return err
	}
	m, err := Parse(message)
	if err != nil {
		return errs.Invalid("message", err.Error())
	}
	sig, err := ethsig.ParseSignature(signature)
	if err != nil {
		return errs.Invalid("signature", err.Error())
	}
	if err := s.check(m); err != nil {
		return err
	}
	none := errs.Unauthenticated("WALLET_NONCE_INVALID",
		"the nonce was used, has expired, or was given to another address or chain")
	return s.nonces.Use(ctx, m.Nonce, none, func(c Challenge) error {
		if c.Address != m.Address.Lower() || c.ChainID != m.ChainID {
			return none
		}
		claim, err := s.prove(ctx, m, ethsig.HashMessage(message), sig)
		if err != nil {
			return err
		}
		return then(claim)
	})
}

// check is what can be told of a message by itself.
func (s *Service) check(m Message) error {
	now := s.Now()
	switch {
	case m.Domain != s.site.Domain, m.URI != s.site.URI,
		m.Scheme != "" && !strings.HasPrefix(s.site.URI, m.Scheme+":"):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message is for another site")
	case !slices.Contains(s.site.Chains, m.ChainID):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message is of a chain that isn't allowed")
	case m.Expires == nil:
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message has no expiration time")
	case !now.Before(m.Expires.Time):
		return errs.Unauthenticated("WALLET_MESSAGE_EXPIRED", "the message has expired")
	case m.NotBefore != nil && now.Before(m.NotBefore.Time), now.Add(ahead).Before(m.IssuedAt.Time):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message is not valid yet")
	}
	return nil
}

// prove returns whose a signature is.
func (s *Service) prove(ctx context.Context, m Message, digest [32]byte, sig []byte) (identity.Claim, error) {
	claim := identity.Claim{Provider: Provider, Subject: m.Address.Lower(), Label: m.Address.String()}
	if by, ok := ethsig.RecoverAddress(digest, sig); ok && by == m.Address {
		return claim, nil
	}
	if ethsig.IsUndeployed(sig) {
		return claim, errs.FailedPrecondition("WALLET_NOT_DEPLOYED",
			"the wallet's contract is not deployed yet (ERC-6492); deploy it, for example by a first transaction")
	}
	ok, err := s.Contracts.IsValidSignature(ctx, m.ChainID, m.Address, digest, sig)
	if e := errs.As(err); e != nil && e.Reason == "CHAIN_NOT_CONFIGURED" && len(sig) == ethsig.KeySignatureSize {
		ok, err = false, nil // most likely it is of an account with a key, and wrong
	}
	if err != nil {
		return claim, err
	}
	if !ok {
		return claim, errs.Unauthenticated("WALLET_SIGNATURE_INVALID",
			"the signature is not the address's, or not of this message")
	}
	claim.Subject = strconv.FormatUint(m.ChainID, 10) + ":" + claim.Subject
	return claim, nil
}

func (s *Service) enabled() error {
	if s.site.Domain == "" {
		return errs.FailedPrecondition("WALLET_SIGN_IN_DISABLED",
			"signing in with wallets is not configured (PURSER_SIWE_DOMAIN)")
	}
	return nil
}

// refused records a refusal of ours and returns it.
func (s *Service) refused(ctx context.Context, err error) error {
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindUnauthenticated {
		return err
	}
	if failed := s.Audit.Record(ctx, audit.Event{Type: audit.Login, Outcome: audit.Refused, Reason: e.Reason,
		Object: Method}); failed != nil {
		return failed
	}
	return err
}
