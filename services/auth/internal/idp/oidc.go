package idp

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

const (
	// metadataMaxAge is how long a discovery document is used before it is fetched
	// again; metadataMaxStale is how long it is used while that fails.
	metadataMaxAge   = time.Hour
	metadataMaxStale = 24 * time.Hour
	// retryCooldown is how long a failed fetch is not retried while a document of
	// less than metadataMaxStale is known.
	retryCooldown = 10 * time.Second
	// maxClockSkew is how far the provider's clock may be from ours: an ID token may
	// be issued so far in the future, and have expired so long ago.
	maxClockSkew = time.Minute
)

// openID is a provider of OpenID Connect.
type openID struct {
	settings Settings
	client   *http.Client
	flight   singleflight.Group

	mu     sync.Mutex
	known  *metadata
	failed time.Time
}

// metadata is a discovery document and the key set that it names.
type metadata struct {
	provider *oidc.Provider
	keys     *oidc.RemoteKeySet
	// sendsIssuer says that authorization responses contain iss (RFC 9207).
	sendsIssuer bool
	algorithms  []string
	at          time.Time
}

func newOIDC(s Settings) *openID {
	if len(s.Scopes) == 0 {
		s.Scopes = []string{oidc.ScopeOpenID, "email", "profile"}
	}
	return &openID{settings: s, client: newClient(s.AllowPrivate)}
}

// AuthURL implements oauth.Provider.
func (o *openID) AuthURL(ctx context.Context, r oauth.Request) (string, error) {
	m, err := o.discover(ctx)
	if err != nil {
		return "", err
	}
	return o.config(m, r.RedirectURI).AuthCodeURL(r.State, oidc.Nonce(r.Nonce),
		oauth2.SetAuthURLParam("code_challenge", r.Challenge),
		oauth2.SetAuthURLParam("code_challenge_method", "S256")), nil
}

func (o *openID) config(m *metadata, redirectURI string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: o.settings.ClientID, ClientSecret: o.settings.ClientSecret.Reveal(),
		Endpoint: m.provider.Endpoint(), RedirectURL: redirectURI, Scopes: o.settings.Scopes,
	}
}

// discover returns the provider's metadata. Concurrent callers share one fetch; each
// waits until its own context ends.
func (o *openID) discover(ctx context.Context) (*metadata, error) {
	o.mu.Lock()
	known, failed := o.known, o.failed
	o.mu.Unlock()
	if known != nil {
		age, coolingDown := time.Since(known.at), time.Since(failed) < retryCooldown
		if age < metadataMaxAge || coolingDown && age < metadataMaxStale {
			return known, nil
		}
	}
	done := o.flight.DoChan("", func() (any, error) { return o.fetch(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	case r := <-done:
		if r.Err == nil {
			return r.Val.(*metadata), nil
		}
		o.mu.Lock()
		o.failed = time.Now()
		o.mu.Unlock()
		if known != nil && time.Since(known.at) < metadataMaxStale {
			return known, nil
		}
		return nil, unavailable(r.Err)
	}
}

func (o *openID) fetch(ctx context.Context) (*metadata, error) {
	ctx, cancel := withTimeout(oidc.ClientContext(ctx, o.client))
	defer cancel()
	p, err := oidc.NewProvider(ctx, o.settings.Issuer)
	if err != nil {
		return nil, err
	}
	var more struct {
		JWKSURI     string   `json:"jwks_uri"`
		SendsIssuer bool     `json:"authorization_response_iss_parameter_supported"`
		Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	m := &metadata{provider: p, sendsIssuer: more.SendsIssuer, at: time.Now()}
	m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), o.client), more.JWKSURI)
	for _, a := range more.Algorithms {
		if asymmetric(a) {
			m.algorithms = append(m.algorithms, a)
		}
	}
	if len(m.algorithms) == 0 { // every provider has to support it
		m.algorithms = []string{oidc.RS256}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = m
	return m, nil
}

// asymmetric reports whether an algorithm signs by a private key. The symmetric ones
// would let everybody who can verify a token sign one.
func asymmetric(alg string) bool {
	switch alg {
	case oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512,
		oidc.EdDSA:
		return true
	}
	return false
}

// idClaims are the claims of an ID token or of the userinfo endpoint.
type idClaims struct {
	Subject         string       `json:"sub"`
	Email           string       `json:"email"`
	Verified        boolOrString `json:"email_verified"`
	Name            string       `json:"name"`
	AuthorizedParty string       `json:"azp"`
}

// Identify implements oauth.Provider.
func (o *openID) Identify(ctx context.Context, a oauth.Answer) (identity.Claim, error) {
	m, err := o.discover(ctx)
	if err != nil {
		return identity.Claim{}, err
	}
	if a.Issuer != o.settings.Issuer && (a.Issuer != "" || m.sendsIssuer) {
		return identity.Claim{}, invalid(errors.New("the response names another issuer"))
	}
	limited, cancel := withTimeout(oidc.ClientContext(ctx, o.client))
	defer cancel()
	token, err := o.config(m, a.RedirectURI).Exchange(limited, a.Code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return identity.Claim{}, exchangeError(err, o.settings.ClientSecret.Reveal(), a.Code, a.Verifier)
	}
	c, err := o.verify(limited, m, token, a.Nonce)
	if err != nil {
		return identity.Claim{}, err
	}
	if c.Email == "" && m.provider.UserInfoEndpoint() != "" {
		if err := o.addUserInfo(limited, m, token, &c); err != nil {
			return identity.Claim{}, err
		}
	}
	return identity.Claim{Subject: c.Subject, Email: c.Email, Verified: bool(c.Verified), Name: c.Name,
		Label: c.Email}, nil
}

// verify checks the ID token (OpenID Connect Core 1.0, section 3.1.3.7).
func (o *openID) verify(ctx context.Context, m *metadata, token *oauth2.Token, nonce string) (idClaims, error) {
	var c idClaims
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return c, invalid(errors.New("the token response has no ID token"))
	}
	if err := authn.CheckUnambiguous(raw, "nonce", "at_hash", "azp", "email", "email_verified", "name"); err != nil {
		return c, invalid(err)
	}
	keys := &keyFetchRecorder{keys: m.keys}
	id, err := oidc.NewVerifier(o.settings.Issuer, keys,
		&oidc.Config{ClientID: o.settings.ClientID, SupportedSigningAlgs: m.algorithms,
			Now: func() time.Time { return time.Now().Add(-maxClockSkew) }}).Verify(ctx, raw)
	if keys.fetchErr != nil {
		return c, unavailable(keys.fetchErr)
	}
	if err != nil {
		return c, invalid(err)
	}
	if err := id.Claims(&c); err != nil {
		return c, invalid(err)
	}
	switch {
	case nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return c, invalid(errors.New("the ID token has another nonce"))
	case c.AuthorizedParty != "" && c.AuthorizedParty != o.settings.ClientID,
		c.AuthorizedParty == "" && len(id.Audience) > 1:
		return c, invalid(errors.New("the ID token was issued to another party"))
	case id.IssuedAt.After(time.Now().Add(maxClockSkew)):
		return c, invalid(errors.New("the ID token was issued in the future"))
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return c, invalid(err)
		}
	}
	return c, nil
}

// addUserInfo adds the claims that the ID token lacks from the userinfo endpoint.
func (o *openID) addUserInfo(ctx context.Context, m *metadata, token *oauth2.Token, c *idClaims) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.provider.UserInfoEndpoint(), nil)
	if err != nil {
		return invalid(err)
	}
	var info idClaims
	if err := requestJSON(o.client, req, token.AccessToken, &info); err != nil {
		return err
	}
	if info.Subject != c.Subject { // OpenID Connect Core 1.0, section 5.3.2
		return invalid(errors.New("the userinfo is of another subject"))
	}
	c.Email, c.Verified = info.Email, info.Verified
	if c.Name == "" {
		c.Name = info.Name
	}
	return nil
}

// keyFetchRecorder records a failure to fetch the keys, which the verifier does not
// distinguish from an invalid signature.
type keyFetchRecorder struct {
	keys     *oidc.RemoteKeySet
	fetchErr error
}

func (n *keyFetchRecorder) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := n.keys.VerifySignature(ctx, jwt)
	if err != nil && (ctx.Err() != nil || strings.HasPrefix(err.Error(), "fetching keys")) {
		n.fetchErr = err
	}
	return payload, err
}

// boolOrString is a boolean that some providers encode as a string.
type boolOrString bool

// UnmarshalJSON decodes true and "true" as true, and everything else as false.
func (t *boolOrString) UnmarshalJSON(b []byte) error {
	*t = string(b) == "true" || string(b) == `"true"`
	return nil
}
