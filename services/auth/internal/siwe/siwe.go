// Package siwe signs users in with Ethereum wallets (EIP-4361).
//
// It promises: a message signs in once, within five minutes, and only for the
// address, chain, domain and purpose that it was issued for: to sign in, or to link
// the wallet to one account, which the message names. An account with a key is
// verified by its signature, a contract wallet by a call of the contract; see
// package ethsig.
//
// An account with a key is one identity on all chains, because the key is the same
// on all. A contract wallet is an identity on its own chain only, because another
// contract can be deployed at the same address of another chain.
//
// Limits: those of ethsig. A message that the owners of a contract wallet have signed
// on chain needs no signature, so for the rest of its five minutes whoever has its
// text can sign in with it, once.
package siwe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	"github.com/purserhq/purser/services/internal/eip4361"
	"github.com/purserhq/purser/services/internal/ethsig"
)

const (
	// Method is the amr (RFC 8176) of sessions that were started by a wallet.
	Method = "wallet"
	// Provider of the identities: the CAIP-2 namespace.
	Provider = "eip155"
	// challengeTTL is how long a nonce can be used.
	challengeTTL = 5 * time.Minute
	// maxClockSkew is how far in the future a message may be issued.
	maxClockSkew = 30 * time.Second
	// signInStatement is the text that a wallet displays before a sign-in.
	signInStatement = "Sign in with this wallet."
)

// linkStatement is the text that a wallet displays before it is linked to an account.
func linkStatement(user uuid.UUID) string {
	return "Let this wallet sign in to the account " + user.String() + "."
}

// Challenge is what a nonce was issued for.
type Challenge struct {
	Address string // lower case
	ChainID uint64
	// Statement says for which purpose, and for whose account if it is to be linked.
	Statement string
}

// Contracts verifies signatures of contract wallets; *ethsig.Contracts is one.
type Contracts interface {
	// Verify asks the contract at an address whether it accepts sig for digest
	// (ERC-1271, ERC-6492). errs.Unavailable (CHAIN_UNAVAILABLE) when too few nodes
	// answer, or don't agree; errs.FailedPrecondition: CHAIN_NOT_CONFIGURED,
	// WALLET_NOT_DEPLOYED.
	Verify(ctx context.Context, chainID uint64, contract ethsig.Address, digest [32]byte,
		sig []byte) (ethsig.Verdict, error)
}

// Sessions starts sessions; *session.Service is one.
type Sessions interface {
	Begin(ctx context.Context, in session.SignIn) (session.Tokens, error)
}

// Site is the site that wallets sign in to.
type Site struct {
	// Domain is the host, or host:port, of the page that requests the signature;
	// wallets compare it. If it is empty, signing in with wallets is disabled.
	Domain string
	// URI of that page.
	URI string
	// Chains are the EIP-155 ids that are allowed.
	Chains []uint64
}

// Deps are the dependencies of a Service.
type Deps struct {
	Nonces     challenge.Store[challenge.Stored[Challenge]]
	Contracts  Contracts
	Identities *identity.Service
	Sessions   Sessions
	Audit      audit.Recorder
	Now        func() time.Time
}

// Service implements signing in with wallets. It is safe for concurrent use.
type Service struct {
	Deps
	site   Site
	nonces *challenge.Registry[Challenge]
}

// NewService returns a service for a site.
func NewService(d Deps, s Site) *Service {
	return &Service{Deps: d, site: s, nonces: challenge.NewRegistry(d.Nonces, challengeTTL, d.Now)}
}

// Start returns a message for a wallet to sign in with, and when it expires.
// errs.Invalid names address or chain_id; errs.FailedPrecondition
// (WALLET_SIGN_IN_DISABLED).
func (s *Service) Start(ctx context.Context, address string, chain uint64) (string, time.Time, error) {
	return s.start(ctx, address, chain, signInStatement)
}

// StartLink is Start for a message that links the wallet to a user's account.
func (s *Service) StartLink(ctx context.Context, user uuid.UUID, address string, chain uint64) (string, time.Time,
	error) {
	return s.start(ctx, address, chain, linkStatement(user))
}

func (s *Service) start(ctx context.Context, address string, chain uint64, statement string) (string, time.Time,
	error) {
	if err := s.enabled(); err != nil {
		return "", time.Time{}, err
	}
	if err := s.CheckStart(address, chain); err != nil {
		return "", time.Time{}, err
	}
	a, err := ethsig.ParseAddress(address)
	if err != nil { // CheckStart has tried it
		return "", time.Time{}, err
	}
	nonce := rand.Text()
	now := s.Now()
	expires := eip4361.NewTime(now.Add(challengeTTL))
	m := eip4361.Message{
		Domain: s.site.Domain, Address: a, Statement: &statement, URI: s.site.URI, Version: "1", ChainID: chain,
		Nonce:    nonce,
		IssuedAt: eip4361.NewTime(now), Expires: &expires,
	}
	issued := Challenge{Address: a.Lower(), ChainID: chain, Statement: statement}
	if _, err := s.nonces.Put(ctx, nonce, issued); err != nil {
		return "", time.Time{}, err
	}
	return m.String(), expires.Time, nil
}

// CheckStart returns errs.Invalid with every mistake in a request to sign in.
func (s *Service) CheckStart(address string, chain uint64) error {
	var wrongAddress, wrongChain error
	if _, err := ethsig.ParseAddress(address); err != nil {
		wrongAddress = errs.Invalid("address", err.Error()+", "+errs.Given(address))
	}
	if s.enabled() == nil && !slices.Contains(s.site.Chains, chain) {
		wrongChain = errs.Invalid("chain_id", fmt.Sprintf("must be a chain that this deployment allows, %s, got %d",
			strings.Trim(fmt.Sprint(s.site.Chains), "[]"), chain))
	}
	return errs.AllInvalid(wrongAddress, wrongChain)
}

// Finish starts a session for the account of the wallet that signed message, and
// creates the account the first time. code is the second factor's, if the account
// has one. A message can be used once, except after CHAIN_UNAVAILABLE and after a
// missing or wrong second factor (see package challenge). errs.Invalid names
// message or signature; errs.Unauthenticated: WALLET_MESSAGE_EXPIRED,
// WALLET_MESSAGE_REFUSED, WALLET_NONCE_INVALID, WALLET_SIGNATURE_INVALID;
// errs.FailedPrecondition: WALLET_NOT_DEPLOYED, WALLET_SIGN_IN_DISABLED,
// CHAIN_NOT_CONFIGURED; or as session.Service.Begin.
func (s *Service) Finish(ctx context.Context, message, signature, code string) (tokens session.Tokens, err error) {
	begun := false
	err = s.use(ctx, message, signature, signInStatement, func(c identity.Claim) error {
		in, err := s.Identities.SignIn(ctx, c, false)
		if err != nil {
			return err
		}
		begun = true
		tokens, err = s.Sessions.Begin(ctx, session.SignIn{User: in.User, Methods: []string{Method}, Code: code,
			Proof: session.Proof{Identity: in.Identity, LastEnd: in.LastEnd}})
		return err
	})
	if begun {
		return tokens, err
	}
	return tokens, s.refused(ctx, err)
}

// Link adds the wallet that signed a message of StartLink to the user's identities, so
// that the user can sign in with it. Errors as Finish and identity.Service.Add.
func (s *Service) Link(ctx context.Context, user uuid.UUID, message, signature string) (linked identity.Identity,
	err error) {
	err = s.use(ctx, message, signature, linkStatement(user), func(c identity.Claim) error {
		linked, err = s.Identities.Add(ctx, user, c)
		return err
	})
	return linked, s.refused(ctx, err)
}

// use verifies a signed message with a statement, uses its nonce up, and passes the
// signer's claim to apply.
func (s *Service) use(ctx context.Context, message, signature, statement string,
	apply func(identity.Claim) error) error {
	if err := s.enabled(); err != nil {
		return err
	}
	m, err := eip4361.Parse(message)
	if err != nil {
		return errs.Invalid("message", err.Error())
	}
	sig, err := ethsig.ParseSignature(signature)
	if err != nil {
		return errs.Invalid("signature", err.Error())
	}
	if err := s.checkMessage(m, statement); err != nil {
		return err
	}
	none := errs.Unauthenticated("WALLET_NONCE_INVALID",
		"the nonce was used, has expired, or was given to another address or chain")
	return s.nonces.Use(ctx, m.Nonce, none, func(c Challenge) error {
		if c.Address != m.Address.Lower() || c.ChainID != m.ChainID || c.Statement != statement {
			return none
		}
		claim, err := s.verifySignature(ctx, m, ethsig.HashMessage(message), sig)
		if err != nil {
			return err
		}
		return apply(claim)
	})
}

// checkMessage checks the fields of a message against its purpose, the site and the
// clock.
func (s *Service) checkMessage(m eip4361.Message, statement string) error {
	now := s.Now()
	switch {
	case m.Domain != s.site.Domain, m.URI != s.site.URI,
		m.Scheme != "" && !strings.HasPrefix(s.site.URI, m.Scheme+":"):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message is for another site")
	case m.Statement == nil || *m.Statement != statement:
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED",
			"the message was issued for another purpose or account: its statement must be \""+statement+"\"")
	case !slices.Contains(s.site.Chains, m.ChainID):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message names a chain that isn't allowed")
	case m.Expires == nil:
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message has no expiration time")
	case !now.Before(m.Expires.Time):
		return errs.Unauthenticated("WALLET_MESSAGE_EXPIRED", "the message has expired")
	case m.NotBefore != nil && now.Before(m.NotBefore.Time), now.Add(maxClockSkew).Before(m.IssuedAt.Time):
		return errs.Unauthenticated("WALLET_MESSAGE_REFUSED", "the message is not valid yet")
	}
	return nil
}

// verifySignature returns the identity that signed, or an error when the signature
// is not one of m.Address.
func (s *Service) verifySignature(ctx context.Context, m eip4361.Message, digest [32]byte,
	sig []byte) (identity.Claim, error) {
	claim := identity.Claim{Provider: Provider, Subject: m.Address.Lower(), Label: m.Address.String()}
	by, err := ethsig.VerifySigner(ctx, s.Contracts, ethsig.Claim{ChainID: m.ChainID, Signer: m.Address,
		Digest: digest, Signature: sig})
	if errors.Is(err, ethsig.ErrNotSigned) {
		return claim, errs.Unauthenticated("WALLET_SIGNATURE_INVALID",
			"the signature is not the address's, or not of this message")
	}
	if by == ethsig.ByContract {
		claim.Subject = strconv.FormatUint(m.ChainID, 10) + ":" + claim.Subject
	}
	return claim, err
}

func (s *Service) enabled() error {
	if s.site.Domain == "" {
		return errs.FailedPrecondition("WALLET_SIGN_IN_DISABLED",
			"signing in with wallets is not configured (PURSER_SIWE_DOMAIN)")
	}
	return nil
}

// refused records err in the audit log if it is a refusal, and returns it.
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
