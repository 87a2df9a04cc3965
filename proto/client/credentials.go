package client

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// refusalTTL is how long a refused secret or key is not tried again: failures count
// against the limit of the caller's address.
const refusalTTL = 30 * time.Second

// Credentials get access tokens. Make them with Token, Password, Session,
// ServiceAccount or APIKey; all but Token need Config.Auth.
type Credentials func(*Clients) (tokenSource, error)

// Token is a given access token. It is not renewed.
func Token(token string) Credentials {
	return func(*Clients) (tokenSource, error) { return static(token), nil }
}

// Password signs in with an e-mail address and a password at the first call and
// refreshes the session. When the session has ended it signs in again. A refused
// password is not tried again: calls then fail with errs.KindUnauthenticated and
// the reason INVALID_CREDENTIALS, or TOTP_REQUIRED for an account with a second
// factor, for which there is Session. It keeps the device token of a sign-in for
// the next one, so that wrong passwords of others do not count against it.
func Password(email, password string) Credentials {
	return withTokens(func(c *Clients) authn.IssueToken {
		device := "" // signIn is not called concurrently
		s := &session{auth: c.Sessions, signIn: func(ctx context.Context) (*authv1.Tokens, error) {
			resp, err := c.Sessions.Login(ctx, &authv1.LoginRequest{Email: email, Password: password,
				DeviceToken: device})
			if err == nil {
				device = resp.GetDeviceToken()
			}
			return resp.GetTokens(), err
		}}
		return s.issue
	})
}

// Session continues a session from its refresh token, which it uses up; nothing else
// may refresh that session. When the session has ended calls fail with
// errs.KindUnauthenticated.
func Session(refreshToken string) Credentials {
	return withTokens(func(c *Clients) authn.IssueToken {
		return (&session{auth: c.Sessions, refreshToken: refreshToken}).issue
	})
}

// ServiceAccount signs in with a service account's name and secret. While these are
// refused (SERVICE_SECRET_INVALID) they are tried every 30 seconds.
func ServiceAccount(clientID, clientSecret string) Credentials {
	return withTokens(func(c *Clients) authn.IssueToken {
		return rememberRefusal(func(ctx context.Context) (string, time.Time, error) {
			resp, err := c.Sessions.IssueServiceAccountToken(ctx,
				&authv1.IssueServiceAccountTokenRequest{ClientId: clientID, ClientSecret: clientSecret})
			return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), err
		})
	})
}

// APIKey signs in with an API key. While it is refused (API_KEY_INVALID) it is tried
// every 30 seconds.
func APIKey(key string) Credentials {
	return withTokens(func(c *Clients) authn.IssueToken {
		return rememberRefusal(func(ctx context.Context) (string, time.Time, error) {
			resp, err := c.APIKeys.ExchangeApiKey(ctx, &authv1.ExchangeApiKeyRequest{Key: key})
			return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), err
		})
	})
}

// withTokens returns credentials whose tokens issue gets and authn.ServiceTokens
// renews.
func withTokens(issue func(*Clients) authn.IssueToken) Credentials {
	return func(c *Clients) (tokenSource, error) {
		if c.Sessions == nil {
			return nil, errors.New("client: these credentials need the address of auth")
		}
		return fetchedTokens{authn.NewServiceTokens(issue(c), nil)}, nil
	}
}

// session is a session that is refreshed, and replaced by a new sign-in when it has
// ended, if there is a signIn. issue is not called concurrently.
type session struct {
	auth         authv1.SessionServiceClient
	signIn       func(context.Context) (*authv1.Tokens, error) // nil if there is no way to
	refreshToken string
	refused      error
}

// issue returns the next access token. If the response to Refresh was lost it calls
// again with the same refresh token, which is possible within a minute; after that
// the session has ended.
func (s *session) issue(ctx context.Context) (string, time.Time, error) {
	if s.refused != nil {
		return "", time.Time{}, s.refused
	}
	if s.refreshToken != "" {
		resp, err := s.auth.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: s.refreshToken})
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) {
			return s.store(resp.GetTokens(), err)
		}
		s.refreshToken = ""
		if s.signIn == nil {
			s.refused = err
			return "", time.Time{}, err
		}
	}
	tokens, err := s.signIn(ctx)
	if errs.Is(err, errs.KindUnauthenticated) {
		s.refused = err
	}
	return s.store(tokens, err)
}

// store keeps the refresh token of t.
func (s *session) store(t *authv1.Tokens, err error) (string, time.Time, error) {
	if err != nil {
		return "", time.Time{}, err
	}
	s.refreshToken = t.GetRefreshToken()
	return t.GetAccessToken(), t.GetAccessExpireTime().AsTime(), nil
}

// rememberRefusal returns issue, but for refusalTTL after a refusal the same error
// without a call.
func rememberRefusal(issue authn.IssueToken) authn.IssueToken {
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
			refusal, until = err, time.Now().Add(refusalTTL)
		}
		return token, expires, err
	}
}
