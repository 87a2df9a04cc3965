package client

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// refusedFor is how long auth is not asked again with a secret or a key that
// it refused: what fails counts against the caller's address.
const refusedFor = 30 * time.Second

// Credentials are a way of getting access tokens: Token, Password, Session,
// ServiceAccount or APIKey. Those but Token need the address of auth.
type Credentials func(*Clients) (source, error)

// Token is an access token as it is. It is never renewed.
func Token(token string) Credentials {
	return func(*Clients) (source, error) { return static(token), nil }
}

// Password signs in with an e-mail address and a password at the first call and
// keeps the session refreshed; a session that was ended is begun anew. A
// password that was refused is not tried again: calls then fail with
// errs.KindUnauthenticated and the reason INVALID_CREDENTIALS, or TOTP_REQUIRED
// where the account has a second factor, which is for Session.
func Password(email, password string) Credentials {
	return asking(func(c *Clients) authn.IssueToken {
		s := &session{auth: c.Sessions, begin: func(ctx context.Context) (*authv1.Tokens, error) {
			resp, err := c.Sessions.Login(ctx, &authv1.LoginRequest{Email: email, Password: password})
			return resp.GetTokens(), err
		}}
		return s.issue
	})
}

// Session goes on with a session that was begun in whatever way, by its
// refresh token, and uses that up. Nobody else may refresh it. Once the session
// has ended calls fail with errs.KindUnauthenticated.
func Session(refreshToken string) Credentials {
	return asking(func(c *Clients) authn.IssueToken {
		return (&session{auth: c.Sessions, refresh: refreshToken}).issue
	})
}

// ServiceAccount signs in with a service account's name and secret. While auth
// refuses them, SERVICE_SECRET_INVALID, they are tried every 30 seconds.
func ServiceAccount(clientID, clientSecret string) Credentials {
	return asking(func(c *Clients) authn.IssueToken {
		return resting(func(ctx context.Context) (string, time.Time, error) {
			resp, err := c.Sessions.IssueServiceToken(ctx,
				&authv1.IssueServiceTokenRequest{ClientId: clientID, ClientSecret: clientSecret})
			return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), err
		})
	})
}

// APIKey signs in with an API key. While auth refuses it, API_KEY_INVALID, it
// is tried every 30 seconds.
func APIKey(key string) Credentials {
	return asking(func(c *Clients) authn.IssueToken {
		return resting(func(ctx context.Context) (string, time.Time, error) {
			resp, err := c.APIKeys.ExchangeApiKey(ctx, &authv1.ExchangeApiKeyRequest{Key: key})
			return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), err
		})
	})
}

func asking(issue func(*Clients) authn.IssueToken) Credentials {
	return func(c *Clients) (source, error) {
		if c.Sessions == nil {
			return nil, errors.New("client: these credentials need the address of auth")
		}
		return fetched{authn.NewServiceTokens(issue(c), nil)}, nil
	}
}

// session is one that is refreshed, and begun anew where that can be done. One
// issue runs at a time.
type session struct {
	auth    authv1.SessionServiceClient
	begin   func(context.Context) (*authv1.Tokens, error) // nil where it can't be
	refresh string
	refused error
}

// issue gets the next access token. An answer to Refresh that was lost is asked
// for again with the same token, which gets the identical successor within a
// minute; after that the session is over.
func (s *session) issue(ctx context.Context) (string, time.Time, error) {
	if s.refused != nil {
		return "", time.Time{}, s.refused
	}
	if s.refresh != "" {
		resp, err := s.auth.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: s.refresh})
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) {
			return s.keep(resp.GetTokens(), err)
		}
		s.refresh = ""
		if s.begin == nil {
			s.refused = err
			return "", time.Time{}, err
		}
	}
	tokens, err := s.begin(ctx)
	if errs.Is(err, errs.KindUnauthenticated) {
		s.refused = err
	}
	return s.keep(tokens, err)
}

func (s *session) keep(t *authv1.Tokens, err error) (string, time.Time, error) {
	if err != nil {
		return "", time.Time{}, err
	}
	s.refresh = t.GetRefreshToken()
	return t.GetAccessToken(), t.GetAccessExpireTime().AsTime(), nil
}

// resting remembers a refusal for a while.
func resting(issue authn.IssueToken) authn.IssueToken {
	var (
		refusal error
		until   time.Time
	)
	return func(ctx context.Context) (string, time.Time, error) {
		if time.Now().Before(until) {
			return "", time.Time{}, refusal
		}
		token, expires, err := issue(ctx)
		if errs.Is(err, errs.KindUnauthenticated) {
			refusal, until = err, time.Now().Add(refusedFor)
		}
		return token, expires, err
	}
}
