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

	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

const (
	// fresh is how long a discovery document, and the keys found by it, are
	// used before they are looked at again; stale how long when that fails.
	fresh = time.Hour
	stale = 24 * time.Hour
	// rest is how long a provider that failed is left alone while there is a
	// document to go on with.
	rest = 10 * time.Second
	// ahead is how far in the future a token may be issued: clocks differ.
	ahead = time.Minute
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

// metadata is a discovery document, with the keys that it leads to.
type metadata struct {
	provider *oidc.Provider
	keys     *oidc.RemoteKeySet
	// namesItself: its answers carry an iss (RFC 9207).
	namesItself bool
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

// discover returns the provider's document. It is fetched by one caller for
// all, and a caller waits no longer than its own context lets it.
func (o *openID) discover(ctx context.Context) (*metadata, error) {
	o.mu.Lock()
	known, failed := o.known, o.failed
	o.mu.Unlock()
	if known != nil && (time.Since(known.at) < fresh || time.Since(failed) < rest && time.Since(known.at) < stale) {
		return known, nil
	}
	done := o.flight.DoChan("", func() (any, error) { return o.fetch(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return nil, away(ctx.Err())
	case r := <-done:
		if r.Err == nil {
			return r.Val.(*metadata), nil
		}
		o.mu.Lock()
		o.failed = time.Now()
		o.mu.Unlock()
		if known != nil && time.Since(known.at) < stale {
			return known, nil
		}
		return nil, away(r.Err)
	}
}

func (o *openID) fetch(ctx context.Context) (*metadata, error) {
	ctx, cancel := bounded(oidc.ClientContext(ctx, o.client))
	defer cancel()
	p, err := oidc.NewProvider(ctx, o.settings.Issuer)
	if err != nil {
		return nil, err
	}
	var more struct {
		JWKSURI     string   `json:"jwks_uri"`
		NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
		Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	m := &metadata{provider: p, namesItself: more.NamesItself, at: time.Now()}
	m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), o.client), more.JWKSURI)
	for _, a := range more.Algorithms {
		if asymmetric(a) {
			m.algorithms = append(m.algorithms, a)
		}
	}
	if len(m.algorithms) == 0 { // the one that every provider has
		m.algorithms = []string{oidc.RS256}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = m
	return m, nil
}

// asymmetric reports whether an algorithm signs with a key that is not the one
// to verify with: the others would let whoever knows that one sign.
func asymmetric(alg string) bool {
	switch alg {
	case oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512,
		oidc.EdDSA:
		return true
	}
	return false
}

// idClaims are those of an ID token, or of the userinfo endpoint.
type idClaims struct {
	Subject  string `json:"sub"`
	Email    string `json:"email"`
	Verified truth  `json:"email_verified"`
	Name     string `json:"name"`
	Party    string `json:"azp"`
}

// Identify implements oauth.Provider.
func (o *openID) Identify(ctx context.Context, a oauth.Answer) (identity.Claim, error) {
	m, err := o.discover(ctx)
	if err != nil {
		return identity.Claim{}, err
	}
	if a.Issuer != o.settings.Issuer && (a.Issuer != "" || m.namesItself) {
		return identity.Claim{}, invalid(errors.New("it comes from another issuer"))
	}
	limited, cancel := bounded(oidc.ClientContext(ctx, o.client))
	defer cancel()
	token, err := o.config(m, a.RedirectURI).Exchange(limited, a.Code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return identity.Claim{}, exchangeFailed(err, o.settings.ClientSecret.Reveal(), a.Code, a.Verifier)
	}
	c, err := o.verify(limited, m, token, a.Nonce)
	if err != nil {
		return identity.Claim{}, err
	}
	if c.Email == "" && m.provider.UserInfoEndpoint() != "" {
		if err := o.complete(limited, m, token, &c); err != nil {
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
		return c, invalid(errors.New("it has no ID token"))
	}
	keys := &noting{keys: m.keys}
	id, err := oidc.NewVerifier(o.settings.Issuer, keys,
		&oidc.Config{ClientID: o.settings.ClientID, SupportedSigningAlgs: m.algorithms}).Verify(ctx, raw)
	if keys.away != nil {
		return c, away(keys.away)
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
	case c.Party != "" && c.Party != o.settings.ClientID, c.Party == "" && len(id.Audience) > 1:
		return c, invalid(errors.New("the ID token was issued to another party"))
	case id.IssuedAt.After(time.Now().Add(ahead)):
		return c, invalid(errors.New("the ID token is of the future"))
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return c, invalid(err)
		}
	}
	return c, nil
}

// complete takes what the ID token doesn't say from the userinfo endpoint.
func (o *openID) complete(ctx context.Context, m *metadata, token *oauth2.Token, c *idClaims) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.provider.UserInfoEndpoint(), nil)
	if err != nil {
		return invalid(err)
	}
	var info idClaims
	if err := askJSON(o.client, req, token.AccessToken, &info); err != nil {
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

// noting tells keys that couldn't be fetched from a signature that is wrong.
type noting struct {
	keys *oidc.RemoteKeySet
	away error
}

func (n *noting) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := n.keys.VerifySignature(ctx, jwt)
	if err != nil && (ctx.Err() != nil || strings.HasPrefix(err.Error(), "fetching keys")) {
		n.away = err
	}
	return payload, err
}

// truth is a boolean that some providers write as a string.
type truth bool

// UnmarshalJSON takes true and "true"; anything else is false.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = string(b) == "true" || string(b) == `"true"`
	return nil
}
