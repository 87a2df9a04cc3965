package suitetest

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// credential is what an access token is exchanged for.
type credential struct {
	name string
	// end takes the credential's authority; nil for the control.
	end func() error
	// exchange asks for an access token.
	exchange func() error
	reasons  []string // one of these is answered
}

// tryCredentials exchanges credentials after their authority has ended, and one of each kind whose has not.
func (x *matrix) tryCredentials(t *testing.T, mint *mint) {
	t.Helper()
	c := dial(t, x.s.Endpoints)
	root := bearing(t.Context(), mint.person(t.Context(), t, nil).token)
	for _, cell := range slices.Concat(x.refreshTokens(t, c, root), x.apiKeys(t, mint, c, root),
		x.serviceSecrets(t, c, root)) {
		if cell.end != nil {
			if err := cell.end(); err != nil {
				t.Errorf("%s: %v", cell.name, err)
				continue
			}
		}
		x.cells.Add(1)
		reason := reasonOf(cell.exchange())
		if !slices.Contains(cell.reasons, reason) {
			t.Errorf("%-60s | %s, want %s", cell.name, reason, strings.Join(cell.reasons, " or "))
		}
	}
}

// refreshTokens, and the password that they were begun with.
func (x *matrix) refreshTokens(t *testing.T, c *demo.Clients, root context.Context) (all []credential) {
	t.Helper()
	for name, tc := range map[string]struct {
		end            func(ctx context.Context, tokens *authv1.Tokens, user string) error
		refresh, login string
	}{
		"nothing": {func(context.Context, *authv1.Tokens, string) error { return nil }, "", ""},
		"Logout": {func(ctx context.Context, _ *authv1.Tokens, _ string) error {
			return get(c.Sessions.Logout(ctx, &authv1.LogoutRequest{}))
		}, "SESSION_REVOKED", ""},
		"LogoutAll": {func(ctx context.Context, _ *authv1.Tokens, _ string) error {
			return get(c.Sessions.LogoutAll(ctx, &authv1.LogoutAllRequest{}))
		}, "SESSION_REVOKED", ""},
		"DisableUser": {func(_ context.Context, _ *authv1.Tokens, user string) error {
			return get(c.AuthAdmin.DisableUser(root, &authv1.DisableUserRequest{UserId: user}))
		}, "SESSION_REVOKED ACCOUNT_DISABLED", "ACCOUNT_DISABLED"},
		"DeleteMe": {func(ctx context.Context, _ *authv1.Tokens, _ string) error {
			return get(c.Accounts.DeleteMe(ctx, &authv1.DeleteMeRequest{}))
		}, "REFRESH_TOKEN_INVALID SESSION_REVOKED", "INVALID_CREDENTIALS"},
		"SetRoles": {func(_ context.Context, _ *authv1.Tokens, user string) error {
			return get(c.AuthAdmin.SetRoles(root, &authv1.SetRolesRequest{UserId: user}))
		}, "SESSION_REVOKED", ""},
	} {
		email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
		must(t)(c.Accounts.Register(t.Context(), &authv1.RegisterRequest{Email: email, Password: password}))
		login := &authv1.LoginRequest{Email: email, Password: password}
		begun, err := c.Sessions.Login(t.Context(), login)
		if err != nil {
			t.Fatal(err)
		}
		tokens := begun.GetTokens()
		user := claimsOf(t, tokens.GetAccessToken()).Subject
		all = append(all, credential{"a refresh token after " + name, func() error {
			return tc.end(bearing(t.Context(), tokens.GetAccessToken()), tokens, user)
		}, func() error {
			return get(c.Sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()}))
		}, strings.Split(tc.refresh, " ")}, credential{"a password after " + name, nil, func() error {
			return get(c.Sessions.Login(t.Context(), login))
		}, []string{tc.login}})
	}
	return all
}

func (x *matrix) apiKeys(t *testing.T, mint *mint, c *demo.Clients, root context.Context) (all []credential) {
	t.Helper()
	for name, tc := range map[string]struct {
		end    func(p made, key string) error
		from   []string // addresses that it may be used from
		reason string
	}{
		"nothing": {func(made, string) error { return nil }, []string{"127.0.0.0/8", "::1/128"}, ""},
		"RevokeApiKey": {func(p made, key string) error {
			return get(c.APIKeys.RevokeApiKey(bearing(t.Context(), p.token),
				&authv1.RevokeApiKeyRequest{ApiKeyId: key}))
		}, nil, "API_KEY_INVALID"},
		"its time": {func(_ made, key string) error {
			mint.exec(t.Context(), t, `UPDATE api_keys SET expires_at = now() WHERE id = $1`, key)
			return nil
		}, nil, "API_KEY_INVALID"},
		"DisableUser": {func(p made, _ string) error {
			return get(c.AuthAdmin.DisableUser(root, &authv1.DisableUserRequest{UserId: p.id.String()}))
		}, nil, "API_KEY_INVALID"},
		"DeleteMe": {func(p made, _ string) error {
			return get(c.Accounts.DeleteMe(bearing(t.Context(), p.token), &authv1.DeleteMeRequest{}))
		}, nil, "API_KEY_INVALID"},
		"nothing, from another address": {func(made, string) error { return nil }, []string{"192.0.2.0/24"},
			"API_KEY_INVALID"},
	} {
		p := mint.person(t.Context(), t, nil)
		key, err := c.APIKeys.CreateApiKey(bearing(t.Context(), p.token), &authv1.CreateApiKeyRequest{Name: "bot",
			Scopes: []string{"wallet:read"}, AllowedCidrs: tc.from})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, credential{"an API key after " + name,
			func() error { return tc.end(p, key.GetApiKey().GetApiKeyId()) },
			func() error {
				return get(c.APIKeys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key.GetKey()}))
			}, []string{tc.reason}})
	}
	return all
}

func (x *matrix) serviceSecrets(t *testing.T, c *demo.Clients, root context.Context) (all []credential) {
	t.Helper()
	for name, tc := range map[string]struct {
		end    func(id string) error
		reason string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"DisableServiceAccount": {func(id string) error {
			return get(c.AuthAdmin.DisableServiceAccount(root,
				&authv1.DisableServiceAccountRequest{ServiceAccountId: id}))
		}, "SERVICE_SECRET_INVALID"},
		"RotateServiceAccountSecret": {func(id string) error {
			return get(c.AuthAdmin.RotateServiceAccountSecret(root,
				&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id}))
		}, "SERVICE_SECRET_INVALID"},
	} {
		robot := "robot-" + uuid.NewString()
		made, err := c.AuthAdmin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{Name: robot})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, credential{"the secret of a service account after " + name,
			func() error { return tc.end(made.GetServiceAccount().GetServiceAccountId()) },
			func() error {
				return get(c.Sessions.IssueServiceAccountToken(t.Context(),
					&authv1.IssueServiceAccountTokenRequest{ClientId: robot, ClientSecret: made.GetClientSecret()}))
			}, []string{tc.reason}})
	}
	return all
}
