// Package oauth signs users in with accounts at external providers, by the
// authorization code flow with PKCE (RFC 6749, RFC 7636, RFC 9700; OpenID Connect
// Core 1.0).
//
// There are two ways: an app of the operator calls Start and Finish; or the hosted
// pages use StartHosted and FinishHosted, and redirect to an app with a login code
// that Exchange turns into tokens, once and within a minute.
//
// With StartLink and FinishLink somebody who is signed in adds an account at a
// provider to their own. What was started as the one can't be finished as the other.
//
// It promises: a sign-in is finished once, within five minutes, by the browser or
// app that started it, which alone knows its secret, and with the provider that it
// was started for; redirects go only to configured addresses, compared exactly.
//
// While the provider is unavailable a sign-in is not used up: Finish may be called
// again with the same response.
package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/challenge"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/session"
)

const (
	// Method is the amr (RFC 8176) of sessions that were started by a provider.
	Method = "oauth"
	// stateTTL is how long a sign-in at a provider may take.
	stateTTL = 5 * time.Minute
	// codeTTL is how long a login code is valid; secondFactorTTL is how long one
	// is valid for an account that has a second factor.
	codeTTL         = time.Minute
	secondFactorTTL = 5 * time.Minute
)

// Provider is an external identity provider.
type Provider interface {
	// AuthURL returns the URL that the user is redirected to. errs.Unavailable
	// (PROVIDER_UNAVAILABLE).
	AuthURL(ctx context.Context, r Request) (string, error)
	// Identify exchanges the code of an answer for the user's identity.
	// errs.Unavailable (PROVIDER_UNAVAILABLE), errs.Unauthenticated
	// (PROVIDER_REFUSED, PROVIDER_ANSWER_INVALID).
	Identify(ctx context.Context, a Answer) (identity.Claim, error)
}

// Request is an authorization request.
type Request struct {
	State, Nonce string
	// Challenge is the code challenge of PKCE, by S256.
	Challenge   string
	RedirectURI string
}

// Answer is an authorization response, with the values of its request to verify.
type Answer struct {
	Code string
	// Issuer is the iss parameter (RFC 9207); may be empty.
	Issuer                       string
	Nonce, Verifier, RedirectURI string
}

// State is a sign-in that was started.
type State struct {
	Provider string
	// Secret is the hash of the secret that the browser or app holds.
	Secret                       string
	Nonce, Verifier, RedirectURI string
	// Return is set if it was started on the hosted page.
	Return *Return
}

// Return is how the hosted pages return to an app.
type Return struct {
	// To is the URL of the app.
	To string
	// State is the app's own, which it gets back.
	State string
	// Challenge is the app's own code challenge (RFC 7636, S256); may be empty.
	Challenge string
}

// LoginCode is what is stored for a login code.
type LoginCode struct {
	User, Identity uuid.UUID
	LastEnd        int64 // see identity.SignedIn
	Challenge      string
}

// Sessions starts sessions; *session.Service is one.
type Sessions interface {
	Begin(ctx context.Context, in session.SignIn) (session.Tokens, error)
}

// Deps are the dependencies of a Service.
type Deps struct {
	Providers  map[string]Provider
	States     challenge.Store[challenge.Stored[State]]
	Links      challenge.Store[challenge.Stored[LinkState]]
	Codes      challenge.Store[challenge.Stored[LoginCode]]
	Identities *identity.Service
	Sessions   Sessions
	Audit      audit.Recorder
	Now        func() time.Time
}

// Addresses are the URLs that browsers may be redirected to.
type Addresses struct {
	// AppRedirectURIs are the redirect URIs of apps that call Start.
	AppRedirectURIs []string
	// ReturnURLs are the URLs of apps that the hosted pages may return to.
	ReturnURLs []string
	// Callback is the redirect URI of the hosted pages.
	Callback string
}

// Service implements signing in with providers. It is safe for concurrent use.
type Service struct {
	Deps
	addresses Addresses
	states    *challenge.Registry[State]
	links     *challenge.Registry[LinkState]
	// Both hold login codes, which live for codeTTL and secondFactorTTL.
	codes, secondFactorCodes *challenge.Registry[LoginCode]
}

// NewService returns a service that redirects to these addresses only.
func NewService(d Deps, a Addresses) *Service {
	return &Service{
		Deps: d, addresses: a,
		states:            challenge.NewRegistry(d.States, stateTTL, d.Now),
		links:             challenge.NewRegistry(d.Links, stateTTL, d.Now),
		codes:             challenge.NewRegistry(d.Codes, codeTTL, d.Now),
		secondFactorCodes: challenge.NewRegistry(d.Codes, secondFactorTTL, d.Now),
	}
}

// Started is the result of Start: redirect the user to URL and keep Secret.
type Started struct {
	URL, State, Secret string
	ExpiresAt          time.Time
}

// Start starts a sign-in for an app. errs.NotFound for an unknown provider,
// errs.Invalid for a redirect URI that isn't allowed, or as Provider.AuthURL.
func (s *Service) Start(ctx context.Context, provider, redirectURI string) (Started, error) {
	if err := s.checkRedirect(redirectURI); err != nil {
		return Started{}, err
	}
	return s.start(ctx, provider, redirectURI, nil)
}

func (s *Service) checkRedirect(redirectURI string) error {
	if !slices.Contains(s.addresses.AppRedirectURIs, redirectURI) {
		return errs.Invalid("redirect_uri", "must be one of those that are allowed (PURSER_OAUTH_REDIRECT_URIS)")
	}
	return nil
}

// StartHosted starts a sign-in on the hosted page. Errors as Start.
func (s *Service) StartHosted(ctx context.Context, provider string, r Return) (Started, error) {
	switch {
	case !slices.Contains(s.addresses.ReturnURLs, r.To):
		return Started{}, errs.Invalid("return_to", "must be one of those that are allowed (PURSER_OAUTH_RETURN_TO)")
	case len(r.State) > 512:
		return Started{}, errs.Invalid("state", "must have at most 512 bytes")
	case r.Challenge != "" && !isChallenge(r.Challenge):
		return Started{}, errs.Invalid("code_challenge",
			"must be the SHA-256 of a verifier in base64url (RFC 7636, S256)")
	}
	return s.start(ctx, provider, s.addresses.Callback, &r)
}

func (s *Service) start(ctx context.Context, provider, redirectURI string, r *Return) (Started, error) {
	started, st, err := s.request(ctx, provider, redirectURI)
	if err != nil {
		return Started{}, err
	}
	st.Return = r
	started.ExpiresAt, err = s.states.Put(ctx, started.State, st)
	return started, err
}

// request makes an authorization request, and the state to store for it.
func (s *Service) request(ctx context.Context, provider, redirectURI string) (Started, State, error) {
	p, ok := s.Providers[provider]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(s.Providers)), ", ")
		return Started{}, State{}, errs.Unlisted("provider", provider, "this deployment has "+cmp.Or(names, "none"))
	}
	started := Started{State: challenge.New(), Secret: challenge.New()}
	st := State{
		Provider: provider, Secret: challenge.Hash(started.Secret), Nonce: challenge.New(), Verifier: challenge.New(),
		RedirectURI: redirectURI,
	}
	var err error
	started.URL, err = p.AuthURL(ctx, Request{State: started.State, Nonce: st.Nonce,
		Challenge: challenge.Hash(st.Verifier), RedirectURI: redirectURI})
	return started, st, err
}

// Callback is the authorization response of a provider.
type Callback struct {
	State, Code, Issuer string
	// Error of the provider, such as access_denied.
	Error string
	// Secret is Started.Secret.
	Secret string
}

func errState() error {
	return errs.Unauthenticated("OAUTH_STATE_INVALID",
		"the sign-in was finished, has expired, or was started by another browser or app; start again")
}

// Finish completes a sign-in of Start. If the account has a second factor it returns
// a login code for Exchange instead of tokens. errs.Unauthenticated:
// OAUTH_STATE_INVALID, or as Identify, identity.Service.SignIn and
// session.Service.Begin.
func (s *Service) Finish(ctx context.Context, c Callback) (tokens session.Tokens, code string, err error) {
	proven := false
	err = s.states.Use(ctx, c.State, errState(), func(st State) error {
		if st.Return != nil || !s.fromInitiator(st, c) {
			return errState()
		}
		in, err := s.identify(ctx, st, c)
		if err != nil {
			return err
		}
		proven = true
		tokens, err = s.begin(ctx, in, "")
		if e := errs.As(err); e != nil && e.Reason == "TOTP_REQUIRED" {
			code = challenge.New()
			_, err = s.secondFactorCodes.Put(ctx, code, LoginCode{User: in.User, Identity: in.Identity,
				LastEnd: in.LastEnd})
		}
		return err
	})
	if proven {
		return tokens, code, err
	}
	return tokens, code, s.refused(ctx, err)
}

// FinishHosted completes a sign-in of StartHosted and returns the URL to redirect
// the browser to: that of the app, with a login code or the reason for a refusal.
// An error means that the browser can't be redirected, because the state is unknown
// or the provider is unavailable.
func (s *Service) FinishHosted(ctx context.Context, c Callback) (string, error) {
	var back string
	err := s.states.Use(ctx, c.State, errState(), func(st State) error {
		if st.Return == nil || !s.fromInitiator(st, c) {
			return errState()
		}
		code, err := "", error(errs.Unauthenticated("PROVIDER_REFUSED", "the provider refused the sign-in"))
		if c.Error == "" {
			code, err = s.hostedCode(ctx, st, c)
		}
		e := errs.As(err)
		if err != nil && (e == nil || e.Kind != errs.KindUnauthenticated && e.Kind != errs.KindFailedPrecondition) {
			return err
		}
		query := map[string]string{"code": code}
		if err != nil {
			if err := s.refused(ctx, err); errs.As(err) != e {
				return err
			}
			query = map[string]string{"error": e.Reason}
		}
		if st.Return.State != "" {
			query["state"] = st.Return.State
		}
		back, err = addQuery(st.Return.To, query)
		return err
	})
	return back, s.refused(ctx, err)
}

func (s *Service) hostedCode(ctx context.Context, st State, c Callback) (string, error) {
	in, err := s.identify(ctx, st, c)
	if err != nil {
		return "", err
	}
	code := challenge.New()
	_, err = s.codes.Put(ctx, code, LoginCode{User: in.User, Identity: in.Identity, LastEnd: in.LastEnd,
		Challenge: st.Return.Challenge})
	return code, err
}

// Exchange turns a login code into tokens. A code can be used once, except after a
// missing or wrong second factor, otp. errs.Unauthenticated: LOGIN_CODE_INVALID, or as
// session.Service.Begin. Whatever ends all sessions of the account ends the code.
func (s *Service) Exchange(ctx context.Context, code, verifier, otp string) (tokens session.Tokens, err error) {
	invalid := errs.Unauthenticated("LOGIN_CODE_INVALID",
		"the code was used, has expired, or was issued to another app")
	proven := false
	err = s.codes.Use(ctx, code, invalid, func(p LoginCode) error {
		// A verifier without a challenge means that the code was started by
		// somebody else (RFC 9700, section 4.8.2).
		if (p.Challenge == "") != (verifier == "") ||
			p.Challenge != "" && !equalInConstantTime(challenge.Hash(verifier), p.Challenge) {
			return invalid
		}
		proven = true
		tokens, err = s.begin(ctx, identity.SignedIn{User: p.User, Identity: p.Identity, LastEnd: p.LastEnd}, otp)
		return err
	})
	if proven {
		return tokens, err
	}
	return tokens, s.refused(ctx, err)
}

func (s *Service) begin(ctx context.Context, in identity.SignedIn, otp string) (session.Tokens, error) {
	return s.Sessions.Begin(ctx, session.SignIn{
		User: in.User, Methods: []string{Method}, Code: otp,
		Proof: session.Proof{Identity: in.Identity, LastEnd: in.LastEnd},
	})
}

// fromInitiator reports whether a callback comes from the browser or app that
// started the sign-in.
func (s *Service) fromInitiator(st State, c Callback) bool {
	return equalInConstantTime(challenge.Hash(c.Secret), st.Secret)
}

func (s *Service) identify(ctx context.Context, st State, c Callback) (identity.SignedIn, error) {
	claim, err := s.claim(ctx, st, c)
	if err != nil {
		return identity.SignedIn{}, err
	}
	return s.Identities.SignIn(ctx, claim, true)
}

// claim asks the provider whose identity its answer is of.
func (s *Service) claim(ctx context.Context, st State, c Callback) (identity.Claim, error) {
	p, ok := s.Providers[st.Provider]
	if !ok { // removed from the configuration
		return identity.Claim{}, errState()
	}
	claim, err := p.Identify(ctx, Answer{Code: c.Code, Issuer: c.Issuer, Nonce: st.Nonce, Verifier: st.Verifier,
		RedirectURI: st.RedirectURI})
	claim.Provider = st.Provider
	return claim, err
}

// refused records err in the audit log if it is a refusal, and returns it. Refusals
// of Sessions.Begin are recorded there.
func (s *Service) refused(ctx context.Context, err error) error {
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindUnauthenticated && e.Kind != errs.KindFailedPrecondition {
		return err
	}
	if failed := s.Audit.Record(ctx, audit.Event{Type: audit.Login, Outcome: audit.Refused, Reason: e.Reason,
		Object: Method}); failed != nil {
		return failed
	}
	return err
}

func equalInConstantTime(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func isChallenge(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// addQuery sets parameters of the query of an address.
func addQuery(address string, query map[string]string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errs.Internal(err)
	}
	q := u.Query()
	for name, value := range query {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}
