// Package oauth signs users in with accounts that they have elsewhere, by the
// authorization code flow with PKCE (RFC 6749, RFC 7636, RFC 9700; OpenID
// Connect Core 1.0).
//
// It promises: a sign-in is finished once, within five minutes, by the browser
// or app that started it, which alone holds its secret, and with the provider
// that it was started for; somebody is sent to no other address than those
// that are allowed, letter by letter. An app of one's own calls Start and
// Finish; the hosted pages hand its address a code that Exchange turns into
// tokens, once and within a minute.
//
// While the provider gives no answer a sign-in isn't used up: Finish may be
// called again with what the provider sent.
package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/challenge"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/session"
)

const (
	// Method is the amr of sessions that a provider vouched for.
	Method = "oauth"
	// stateLife is how long a sign-in may take, codeLife how long the code of
	// a hosted one waits for its app, factorLife how long one waits for a
	// second factor.
	stateLife  = 5 * time.Minute
	codeLife   = time.Minute
	factorLife = 5 * time.Minute
)

// Provider is where users have accounts.
type Provider interface {
	// AuthURL is where a user is sent to. errs.Unavailable
	// (PROVIDER_UNAVAILABLE).
	AuthURL(ctx context.Context, r Request) (string, error)
	// Identify turns the provider's answer into who somebody is.
	// errs.Unavailable (PROVIDER_UNAVAILABLE), errs.Unauthenticated
	// (PROVIDER_REFUSED, PROVIDER_ANSWER_INVALID).
	Identify(ctx context.Context, a Answer) (identity.Claim, error)
}

// Request is what a provider is asked.
type Request struct {
	State, Nonce string
	// Challenge is the S256 one of PKCE.
	Challenge   string
	RedirectURI string
}

// Answer is what came back, and what it has to fit.
type Answer struct {
	Code string
	// Issuer that the answer named (RFC 9207); may be empty.
	Issuer                       string
	Nonce, Verifier, RedirectURI string
}

// State of a sign-in that was started.
type State struct {
	Provider string
	// Secret is the hash of what the browser or app holds.
	Secret                       string
	Nonce, Verifier, RedirectURI string
	// Return is set where it was started on the hosted page.
	Return *Return
}

// Return is how somebody gets back from the hosted pages.
type Return struct {
	To string
	// State is the app's own, given back to it.
	State string
	// Challenge that the app has to know the verifier of; none when empty.
	Challenge string
}

// Proven is who a login code stands for.
type Proven struct {
	User, Identity uuid.UUID
	Challenge      string
}

// Sessions begins sessions; *session.Service is one.
type Sessions interface {
	Begin(ctx context.Context, in session.SignIn) (session.Tokens, error)
}

// Deps are what the rules stand on.
type Deps struct {
	Providers  map[string]Provider
	States     challenge.Store[challenge.Kept[State]]
	Codes      challenge.Store[challenge.Kept[Proven]]
	Identities *identity.Service
	Sessions   Sessions
	Audit      audit.Recorder
	Now        func() time.Time
}

// Addresses are those that somebody may be sent to.
type Addresses struct {
	// Apps are the redirect URIs of apps that call Start.
	Apps []string
	// Returns are where the hosted pages may send somebody.
	Returns []string
	// Callback is the hosted pages' own redirect URI.
	Callback string
}

// Service is the rules of signing in elsewhere.
type Service struct {
	Deps
	addresses Addresses
	states    *challenge.Box[State]
	// Of one kind, which live for codeLife and factorLife.
	codes, factorCodes *challenge.Box[Proven]
}

// NewService returns the rules.
func NewService(d Deps, a Addresses) *Service {
	return &Service{
		Deps: d, addresses: a,
		states:      challenge.NewBox(d.States, stateLife, d.Now),
		codes:       challenge.NewBox(d.Codes, codeLife, d.Now),
		factorCodes: challenge.NewBox(d.Codes, factorLife, d.Now),
	}
}

// Started is a sign-in that was started: send the user to URL, keep Secret.
type Started struct {
	URL, State, Secret string
	ExpiresAt          time.Time
}

// Start begins a sign-in for an app. errs.NotFound for a provider that there is
// none of, errs.Invalid for a redirect URI that isn't allowed, or as AuthURL.
func (s *Service) Start(ctx context.Context, provider, redirectURI string) (Started, error) {
	if !slices.Contains(s.addresses.Apps, redirectURI) {
		return Started{}, errs.Invalid("redirect_uri",
			"must be one of those that are allowed (PURSER_OAUTH_REDIRECT_URIS)")
	}
	return s.start(ctx, provider, redirectURI, nil)
}

// StartHosted begins a sign-in on the hosted page. Errors as Start.
func (s *Service) StartHosted(ctx context.Context, provider string, r Return) (Started, error) {
	switch {
	case !slices.Contains(s.addresses.Returns, r.To):
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
	p, ok := s.Providers[provider]
	if !ok {
		return Started{}, errs.NotFound("provider")
	}
	started := Started{State: challenge.New(), Secret: challenge.New()}
	st := State{
		Provider: provider, Secret: challenge.Hash(started.Secret), Nonce: challenge.New(), Verifier: challenge.New(),
		RedirectURI: redirectURI, Return: r,
	}
	var err error
	started.URL, err = p.AuthURL(ctx, Request{State: started.State, Nonce: st.Nonce,
		Challenge: challenge.Hash(st.Verifier), RedirectURI: redirectURI})
	if err != nil {
		return Started{}, err
	}
	started.ExpiresAt, err = s.states.Put(ctx, started.State, st)
	return started, err
}

// Callback is what the provider sent somebody back with.
type Callback struct {
	State, Code, Issuer string
	// Error of the provider, such as access_denied.
	Error string
	// Secret that Started had.
	Secret string
}

func errState() error {
	return errs.Unauthenticated("OAUTH_STATE_INVALID",
		"the sign-in was finished, has expired, or was started elsewhere; start again")
}

// Finish ends what Start began. Where the account has a second factor it
// returns a login code for Exchange instead of tokens. errs.Unauthenticated:
// OAUTH_STATE_INVALID, or as Identify, identity.Service.SignIn and
// session.Service.Begin.
func (s *Service) Finish(ctx context.Context, c Callback) (tokens session.Tokens, code string, err error) {
	proven := false
	err = s.states.Use(ctx, c.State, errState(), func(st State) error {
		if st.Return != nil || !s.holds(st, c) {
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
			_, err = s.factorCodes.Put(ctx, code, Proven{User: in.User, Identity: in.Identity})
		}
		return err
	})
	if proven {
		return tokens, code, err
	}
	return tokens, code, s.refused(ctx, err)
}

// FinishHosted ends what StartHosted began and returns where to send the
// browser: to the app with a login code, or with the reason that there is
// none. The error is for those who can't be sent back, since nothing is known
// of them, and of a provider that gives no answer.
func (s *Service) FinishHosted(ctx context.Context, c Callback) (string, error) {
	var back string
	err := s.states.Use(ctx, c.State, errState(), func(st State) error {
		if st.Return == nil || !s.holds(st, c) {
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
		back, err = with(st.Return.To, query)
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
	_, err = s.codes.Put(ctx, code, Proven{User: in.User, Identity: in.Identity, Challenge: st.Return.Challenge})
	return code, err
}

// Exchange turns a login code into tokens: once, but for a second factor that
// is missing or wrong. errs.Unauthenticated: LOGIN_CODE_INVALID, or as
// session.Service.Begin.
func (s *Service) Exchange(ctx context.Context, code, verifier, otp string) (tokens session.Tokens, err error) {
	invalid := errs.Unauthenticated("LOGIN_CODE_INVALID", "the code was used, has expired, or is another's")
	proven := false
	err = s.codes.Use(ctx, code, invalid, func(p Proven) error {
		// A verifier without a challenge means that the code was started by
		// somebody else (RFC 9700, section 4.8.2).
		if (p.Challenge == "") != (verifier == "") ||
			p.Challenge != "" && !same(challenge.Hash(verifier), p.Challenge) {
			return invalid
		}
		proven = true
		tokens, err = s.begin(ctx, identity.SignedIn{User: p.User, Identity: p.Identity}, otp)
		return err
	})
	if proven {
		return tokens, err
	}
	return tokens, s.refused(ctx, err)
}

func (s *Service) begin(ctx context.Context, in identity.SignedIn, otp string) (session.Tokens, error) {
	return s.Sessions.Begin(ctx, session.SignIn{
		User: in.User, Methods: []string{Method}, Code: otp, Proof: session.Proof{Identity: in.Identity},
	})
}

// holds reports whether a callback comes from who started the sign-in.
func (s *Service) holds(st State, c Callback) bool {
	return same(challenge.Hash(c.Secret), st.Secret)
}

func (s *Service) identify(ctx context.Context, st State, c Callback) (identity.SignedIn, error) {
	p, ok := s.Providers[st.Provider]
	if !ok { // configured no more
		return identity.SignedIn{}, errState()
	}
	claim, err := p.Identify(ctx, Answer{Code: c.Code, Issuer: c.Issuer, Nonce: st.Nonce, Verifier: st.Verifier,
		RedirectURI: st.RedirectURI})
	if err != nil {
		return identity.SignedIn{}, err
	}
	claim.Provider = st.Provider
	return s.Identities.SignIn(ctx, claim, true)
}

// refused records a refusal of ours and returns it. What Begin refuses it
// records itself.
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

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func isChallenge(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// with adds to the query of an address that is allowed.
func with(address string, query map[string]string) (string, error) {
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
