// Package authn verifies Purser's access tokens without a call to the issuer,
// and identifies the caller.
//
// It promises: the algorithm, type, issuer, audience and times of a token are
// checked on every call (RFC 9068, RFC 8725); a token that can be read in two ways
// is refused ([CheckUnambiguous]); the algorithm is the key's, never the token's
// choice; unknown key ids cause at most one fetch of the key set in ten seconds.
// While the issuer is unavailable the known keys are used for up to an hour; a
// token of another key, or of any key after that hour, is answered UNAVAILABLE,
// neither accepted nor refused.
//
// A verified token is cached, so that its signature is checked once: until it
// expires, its key leaves the set, or 10,000 other tokens have followed.
//
// Revoked keys, sessions and users are refused on every call, also for cached
// tokens, as soon as [Revocations] knows of them. No call waits for that.
//
// Limits: a revocation that Revocations doesn't know of has no effect; the token
// stays valid until it expires, which is after 15 minutes by default.
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

// Leeway is the default of Options.Leeway: by how much the issuer's clock and
// the verifier's may differ.
const Leeway = 30 * time.Second

// maxToken is the largest token that is parsed, in bytes; one has about 700.
const maxToken = 8 << 10

// Claims are those of an access token (RFC 9068). AMR are the methods of the
// sign-in (RFC 8176); AuthTime is when it was proven.
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

// KeySource finds keys by their id (kid). Key returns ErrUnknownKey for an id
// that is not in the set, and errs.Unavailable when there is no set, or only one
// that is too old to decide.
type KeySource interface {
	Key(ctx context.Context, kid string) (Key, error)
}

// ErrUnknownKey is returned for a key id that the issuer's key set does not
// have.
var ErrUnknownKey = errors.New("authn: unknown key")

// Options of a Verifier.
type Options struct {
	// Issuer that tokens must name (iss). Required: without one no token is
	// accepted.
	Issuer string
	// Leeway on a token's iat, nbf and exp; the constant Leeway when zero.
	Leeway time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Revoked reports whether a token that verifies is refused, because its key,
	// session or user was revoked. It is called for every token, so it must not
	// block. [Revocations.Revoked] implements it. With nil nothing is revoked.
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
	cache   *lru.Cache[string, *verified] // by the token's signature
}

// verified is what is kept of a token whose signature and claims are valid. It is not changed.
type verified struct {
	caller Caller // with the whole token
	kid    string
	public interface {
		Equal(other crypto.PublicKey) bool
	}
	until time.Time // when the token has expired, with the leeway
}

// maxVerified is how many verified tokens a Verifier keeps.
const maxVerified = 10_000

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
	cache, _ := lru.New[string, *verified](maxVerified) // fails only for a size below 1
	return &Verifier{keys: keys, issuer: o.Issuer, now: o.Now, leeway: o.Leeway, revoked: o.Revoked, cache: cache,
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

// Verify checks a token, the authorization header's value without "Bearer ", and
// returns its caller. The caller's slices and maps are shared: don't change
// them.
//
// The error is errs.Unauthenticated (TOKEN_MISSING, TOKEN_EXPIRED, TOKEN_REVOKED
// or TOKEN_INVALID), errs.Unavailable (KEYS_UNAVAILABLE) while the issuer's keys
// are not known, or ctx's own.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	if token == "" {
		return Caller{}, errs.Unauthenticated("TOKEN_MISSING",
			"this method needs an access token; send the metadata authorization: Bearer <access token>, "+
				"which SessionService.Login returns")
	}
	if found := v.lookup(ctx, token); found != nil {
		if v.revoked(found.kid, found.caller) {
			return Caller{}, v.refusal(errRevoked, nil)
		}
		return found.caller, nil
	}
	if v.issuer == "" { // for the parser that is any issuer
		return Caller{}, errs.Internal(errors.New("authn: no issuer is configured"))
	}
	if len(token) > maxToken {
		return Caller{}, invalid(newFault("it has %d bytes; an access token has at most %d", len(token), maxToken))
	}
	if err := checkForm(token); err != nil {
		return Caller{}, invalid(err)
	}
	token = strings.Clone(token) // it is kept, and would keep the whole header that it is a part of
	if err := CheckUnambiguous(token, "sid", "roles", "permissions", "attributes", "amr"); err != nil {
		return Caller{}, v.refusal(err, nil)
	}
	var c Claims
	var kid string // of the key that the signature was checked with, and the key
	var public crypto.PublicKey
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		var err error
		kid, public, err = v.key(ctx, t)
		return public, err
	})
	if err != nil {
		return Caller{}, v.refusal(err, &c)
	}
	user, ok := id(c.Subject)
	if !ok {
		return Caller{}, invalid(errors.New("its sub is no user id: a UUID, lower case, with hyphens"))
	}
	session, ok := id(c.SessionID)
	if !ok {
		return Caller{}, invalid(errors.New("its sid is no session id: a UUID, lower case, with hyphens"))
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
	if v.revoked(kid, caller) {
		return Caller{}, v.refusal(errRevoked, nil)
	}
	if comparable, ok := public.(interface {
		Equal(other crypto.PublicKey) bool
	}); ok {
		v.cache.Add(signature(token), &verified{caller: caller, kid: kid, public: comparable,
			until: caller.ExpiresAt.Add(v.leeway)})
	}
	return caller, nil
}

// signature is the last part of a token. Two tokens that verify have different ones, and it is hashed sooner than the
// whole token.
func signature(token string) string { return token[strings.LastIndexByte(token, '.')+1:] }

// id reads a UUID in the one form that Purser writes (RFC 9562, section 4), so that an id which is compared as text is
// the same. False for the nil UUID.
func id(text string) (uuid.UUID, bool) {
	u, err := uuid.Parse(text)
	return u, err == nil && u != uuid.Nil && u.String() == text
}

// lookup finds a token in the cache, unless it has expired or its key has left
// the set.
func (v *Verifier) lookup(ctx context.Context, token string) *verified {
	found, ok := v.cache.Get(signature(token))
	if !ok || found.caller.Token != token { // another token with this signature is none of ours
		return nil
	}
	if v.now().Before(found.until) {
		if key, err := v.keys.Key(ctx, found.kid); err == nil && found.public.Equal(key.Public) {
			return found
		}
	}
	v.cache.Remove(signature(token))
	return nil
}

func (v *Verifier) key(ctx context.Context, t *jwt.Token) (kid string, public crypto.PublicKey, err error) {
	typ, _ := t.Header["typ"].(string)
	if !strings.EqualFold(strings.TrimPrefix(typ, "application/"), TokenType) {
		return "", nil, newFault("its typ is not %s, %s: it is a token of another kind, such as an ID "+
			"token", TokenType,
			errs.Given(typ))
	}
	kid, _ = t.Header["kid"].(string)
	if kid == "" || len(kid) > 128 {
		return "", nil, errors.New("no usable kid")
	}
	if v.revoked(kid, Caller{}) { // before the set, which a revoked key may have left
		return "", nil, errRevoked
	}
	k, err := v.keys.Key(ctx, kid)
	if err != nil {
		// A key leaves the set when all its tokens have expired: of one that says so
		// this is the cause, and what its caller has to know.
		if c, ok := t.Claims.(*Claims); ok && c.ExpiresAt != nil && ctx.Err() == nil &&
			!v.now().Before(c.ExpiresAt.Add(v.leeway)) {
			err = jwt.ErrTokenExpired
		}
		return "", nil, err
	}
	if t.Method.Alg() != k.Algorithm {
		return "", nil, errors.New("alg is not the key's")
	}
	return kid, k.Public, nil
}

var errRevoked = errors.New("authn: revoked")
