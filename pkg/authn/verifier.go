// Package authn verifies Purser's access tokens locally and says who is
// calling. It promises: the algorithm, type, issuer, audience and times of a
// token are checked on every call (RFC 9068, RFC 8725); the algorithm is the
// key's, never the token's choice; a token signed by an unknown key causes at
// most one fetch of the key set in ten seconds; while the issuer is away the
// known keys serve for an hour, and a token of any other key, or after that of
// any key, is neither accepted nor refused but answered UNAVAILABLE.
//
// A token that was found good is remembered, and then costs no signature check,
// until it expires, its key leaves the set, or ten thousand others have come.
//
// What the issuer has revoked (sessions, users, keys) is refused on every call,
// remembered or not, once [Revocations] has heard of it; no call waits for
// that.
//
// Limits: without Revocations, and for what its stream didn't bring, a token
// that was revoked stays valid until it expires (15 minutes unless set
// otherwise), for nothing is asked of the issuer per call.
package authn

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/purserhq/purser/pkg/errs"
)

// TokenType is the typ header of an access token (RFC 9068).
const TokenType = "at+jwt"

// Audience of the tokens that Purser's services accept.
const Audience = "purser"

// Leeway that a verifier gives on the times of a token unless told otherwise:
// how far the clock of who signs may be off.
const Leeway = 30 * time.Second

// maxToken bounds what is parsed: a token is about 700 bytes.
const maxToken = 8 << 10

// Claims is the content of an access token.
type Claims struct {
	jwt.RegisteredClaims
	SessionID   string            `json:"sid"`
	Roles       []string          `json:"roles,omitempty"`
	Permissions []string          `json:"permissions,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	AMR         []string          `json:"amr,omitempty"`
	AuthTime    *jwt.NumericDate  `json:"auth_time,omitempty"`
}

// Key is a public key that tokens may be signed with.
type Key struct {
	// Algorithm as in the JWS header: EdDSA, ES256 or RS256.
	Algorithm string
	Public    crypto.PublicKey
}

// KeySource finds keys by their kid. It returns ErrUnknownKey for a kid that
// is not in the set, and an errs.Unavailable when it can't tell, for it has no
// set to look in or only an old one.
type KeySource interface {
	Key(ctx context.Context, kid string) (Key, error)
}

// ErrUnknownKey is a kid that the issuer's key set does not have.
var ErrUnknownKey = errors.New("authn: unknown key")

// Options of a Verifier.
type Options struct {
	// Issuer that tokens must name; required: without one no token is
	// accepted.
	Issuer string
	// Leeway on the times of a token; the constant Leeway when zero.
	Leeway time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Revoked reports what a token is refused for although it verifies: the
	// key that signed it, or its session or user. It is asked on every call,
	// so it must not wait; nil for nothing. [Revocations.Revoked] is one.
	Revoked func(kid string, c Caller) bool
}

// Verifier checks access tokens. It is safe for concurrent use.
type Verifier struct {
	keys    KeySource
	issuer  string
	parser  *jwt.Parser
	now     func() time.Time
	leeway  time.Duration
	revoked func(kid string, c Caller) bool
	good    *lru.Cache[string, verified] // by the whole token
}

// verified is a token whose signature and claims were found good.
type verified struct {
	caller Caller
	kid    string
	public crypto.PublicKey
}

const remembered = 10_000

// NewVerifier returns a verifier that takes its keys from keys.
func NewVerifier(keys KeySource, o Options) *Verifier {
	if o.Leeway == 0 {
		o.Leeway = Leeway
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Revoked == nil {
		o.Revoked = func(string, Caller) bool { return false }
	}
	good, _ := lru.New[string, verified](remembered) // fails only for a size below 1
	return &Verifier{keys: keys, issuer: o.Issuer, now: o.Now, leeway: o.Leeway, revoked: o.Revoked, good: good,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"EdDSA", "ES256", "RS256"}),
			jwt.WithIssuer(o.Issuer),
			jwt.WithAudience(Audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(o.Leeway),
			jwt.WithTimeFunc(o.Now),
			jwt.WithStrictDecoding(),
		)}
}

// Verify checks a token, as it stands in the header without "Bearer ".
//
// The error is errs.Unauthenticated with reason TOKEN_MISSING, TOKEN_EXPIRED,
// TOKEN_REVOKED or TOKEN_INVALID, or errs.Unavailable with reason KEYS_UNAVAILABLE when it
// can't be told. The caller's roles and permissions are shared: don't change
// them.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	if token == "" {
		return Caller{}, errs.Unauthenticated("TOKEN_MISSING",
			"an access token is needed: authorization: Bearer <token>")
	}
	if seen, ok := v.remembers(ctx, token); ok {
		if v.revoked(seen.kid, seen.caller) {
			return Caller{}, refusal(errRevoked)
		}
		return seen.caller, nil
	}
	if v.issuer == "" { // which the parser would take for "any"
		return Caller{}, errs.Internal(errors.New("authn: no issuer is configured"))
	}
	if len(token) > maxToken {
		return Caller{}, invalid(errors.New("too long"))
	}
	if strings.ContainsAny(token, "\r\n") { // which the base64 decoder passes over
		return Caller{}, invalid(errors.New("a line break"))
	}
	var c Claims
	var used verified // the key that the signature was checked with
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, public, err := v.key(ctx, t)
		used.kid, used.public = kid, public
		return public, err
	})
	if err != nil {
		return Caller{}, refusal(err)
	}
	user, err := uuid.Parse(c.Subject)
	if err != nil || user == uuid.Nil {
		return Caller{}, invalid(errors.New("sub is not a user id"))
	}
	session, err := uuid.Parse(c.SessionID)
	if err != nil || session == uuid.Nil {
		return Caller{}, invalid(errors.New("sid is not a session id"))
	}
	caller := Caller{
		UserID: user, SessionID: session,
		Roles: c.Roles, Permissions: c.Permissions, Attributes: c.Attributes,
		Methods: c.AMR, ExpiresAt: c.ExpiresAt.Time, Token: token,
	}
	if c.AuthTime != nil {
		caller.AuthTime = c.AuthTime.Time
	}
	if c.IssuedAt != nil {
		caller.IssuedAt = c.IssuedAt.Time
	}
	if v.revoked(used.kid, caller) {
		return Caller{}, refusal(errRevoked)
	}
	used.caller = caller
	v.good.Add(token, used)
	return caller, nil
}

// remembers reports whether token was found good before, has not expired, and
// is signed by a key that is still in the set.
func (v *Verifier) remembers(ctx context.Context, token string) (verified, bool) {
	seen, ok := v.good.Get(token)
	if !ok {
		return seen, false
	}
	if v.now().Before(seen.caller.ExpiresAt.Add(v.leeway)) {
		key, err := v.keys.Key(ctx, seen.kid)
		same, comparable := seen.public.(interface{ Equal(crypto.PublicKey) bool })
		if err == nil && comparable && same.Equal(key.Public) {
			return seen, true
		}
	}
	v.good.Remove(token)
	return seen, false
}

func (v *Verifier) key(ctx context.Context, t *jwt.Token) (kid string, public crypto.PublicKey, err error) {
	typ, _ := t.Header["typ"].(string)
	if !strings.EqualFold(strings.TrimPrefix(typ, "application/"), TokenType) {
		return "", nil, errors.New("typ is not " + TokenType)
	}
	if _, critical := t.Header["crit"]; critical {
		return "", nil, errors.New("crit is not supported")
	}
	kid, _ = t.Header["kid"].(string)
	if kid == "" || len(kid) > 128 {
		return "", nil, errors.New("no usable kid")
	}
	if v.revoked(kid, Caller{}) { // also when the key has left the set
		return "", nil, errRevoked
	}
	k, err := v.keys.Key(ctx, kid)
	if err != nil {
		return "", nil, err
	}
	if t.Method.Alg() != k.Algorithm {
		return "", nil, errors.New("alg is not the key's")
	}
	return kid, k.Public, nil
}

var errRevoked = errors.New("authn: revoked")

func refusal(err error) error {
	if errors.Is(err, errRevoked) {
		return errs.Unauthenticated("TOKEN_REVOKED", "the access token was revoked; sign in again")
	}
	if e := errs.As(err); e != nil && e.Kind == errs.KindUnavailable {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return errs.Unauthenticated("TOKEN_EXPIRED", "the access token has expired").Because(err)
	}
	return invalid(err)
}

func invalid(cause error) error {
	return errs.Unauthenticated("TOKEN_INVALID", "the access token is not valid").Because(cause)
}
