package suitetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// endings are the ways in which an authority ends.
func (x *matrix) endings(t *testing.T, mint *mint, c *demo.Clients) (all []*ending) {
	t.Helper()
	ctx := t.Context()
	root := bearing(ctx, mint.person(ctx, t, nil).token)
	add := func(name string, p made, token string, end func() error) {
		all = append(all, &ending{name: name, token: token, own: p.values, who: p.id, end: end})
	}
	// Of a person: by themselves, in this session or another, and by an admin.
	for name, end := range map[string]func(p made) error{
		"Logout": func(p made) error {
			return get(c.Sessions.Logout(bearing(ctx, p.token), &authv1.LogoutRequest{}))
		},
		"LogoutAll": func(p made) error {
			return get(c.Sessions.LogoutAll(bearing(ctx, p.token), &authv1.LogoutAllRequest{}))
		},
		"RevokeSession, from another session": func(p made) error {
			other := mint.sign(t, mint.claims(p.id, uuid.MustParse(p.values["session_id"])), nil)
			return get(c.Sessions.RevokeSession(bearing(ctx, other),
				&authv1.RevokeSessionRequest{SessionId: p.session.String()}))
		},
		"TokenService.Revoke": func(p made) error {
			return get(c.Keys.Revoke(ctx, &authv1.RevokeRequest{Token: p.token}))
		},
		"DeleteMe": func(p made) error {
			return get(c.Accounts.DeleteMe(bearing(ctx, p.token), &authv1.DeleteMeRequest{}))
		},
		"DisableUser": func(p made) error {
			return get(c.AuthAdmin.DisableUser(root, &authv1.DisableUserRequest{UserId: p.id.String()}))
		},
		"SetRoles without a role": func(p made) error {
			return get(c.AuthAdmin.SetRoles(root, &authv1.SetRolesRequest{UserId: p.id.String()}))
		},
		"SetRoles with other roles": func(p made) error {
			return get(c.AuthAdmin.SetRoles(root, &authv1.SetRolesRequest{UserId: p.id.String(),
				Roles: []string{"trader"}}))
		},
		"SetRoles with end_sessions": func(p made) error {
			return get(c.AuthAdmin.SetRoles(root, &authv1.SetRolesRequest{UserId: p.id.String(),
				Roles: []string{"fund_manager"}, EndSessions: proto.Bool(true)}))
		},
	} {
		p := mint.person(ctx, t, nil)
		add(name, p, p.token, func() error { return end(p) })
	}
	return slices.Concat(all, x.endingsOfKeys(t, mint, c, root), x.endingsOfPrograms(t, c, root))
}

// endingsOfKeys end what the token of an API key stands for.
func (x *matrix) endingsOfKeys(t *testing.T, mint *mint, c *demo.Clients, root context.Context) (all []*ending) {
	t.Helper()
	for name, end := range map[string]func(p made, key string) error{
		"RevokeApiKey": func(p made, key string) error {
			return get(c.APIKeys.RevokeApiKey(bearing(t.Context(), p.token),
				&authv1.RevokeApiKeyRequest{ApiKeyId: key}))
		},
		"DisableUser, of an API key's owner": func(p made, _ string) error {
			return get(c.AuthAdmin.DisableUser(root, &authv1.DisableUserRequest{UserId: p.id.String()}))
		},
		"DeleteMe, of an API key's owner": func(p made, _ string) error {
			return get(c.Accounts.DeleteMe(bearing(t.Context(), p.token), &authv1.DeleteMeRequest{}))
		},
		"SetRoles, of an API key's owner": func(p made, _ string) error {
			return get(c.AuthAdmin.SetRoles(root, &authv1.SetRolesRequest{UserId: p.id.String()}))
		},
	} {
		p := mint.person(t.Context(), t, nil)
		key, err := c.APIKeys.CreateApiKey(bearing(t.Context(), p.token), &authv1.CreateApiKeyRequest{Name: "bot",
			Scopes: []string{"wallet:read", "wallet:write", "portfolio:read", "portfolio:write", "admin:system"}})
		if err != nil {
			t.Fatal(err)
		}
		exchanged, err := c.APIKeys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key.GetKey()})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &ending{name: name, token: exchanged.GetAccessToken(), own: p.values, who: p.id,
			end: func() error { return end(p, key.GetApiKey().GetApiKeyId()) }})
	}
	return all
}

// endingsOfPrograms end what the token of a service account stands for.
func (x *matrix) endingsOfPrograms(t *testing.T, c *demo.Clients, root context.Context) (all []*ending) {
	t.Helper()
	for name, end := range map[string]func(id string) error{
		"DisableServiceAccount": func(id string) error {
			return get(c.AuthAdmin.DisableServiceAccount(root,
				&authv1.DisableServiceAccountRequest{ServiceAccountId: id}))
		},
		"RotateServiceAccountSecret": func(id string) error {
			return get(c.AuthAdmin.RotateServiceAccountSecret(root,
				&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id}))
		},
	} {
		robot := fmt.Sprintf("robot-%s", uuid.NewString())
		made, err := c.AuthAdmin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{Name: robot,
			Permissions: everyPermission()})
		if err != nil {
			t.Fatal(err)
		}
		issued, err := c.Sessions.IssueServiceAccountToken(t.Context(),
			&authv1.IssueServiceAccountTokenRequest{ClientId: robot, ClientSecret: made.GetClientSecret()})
		if err != nil {
			t.Fatal(err)
		}
		id := made.GetServiceAccount().GetServiceAccountId()
		all = append(all, &ending{name: name, token: issued.GetAccessToken(), who: uuid.MustParse(id),
			own: targets{"session_id": uuid.NewString(), "api_key_id": uuid.NewString(),
				"identity_id": uuid.NewString(), "token": issued.GetAccessToken()},
			end: func() error { return end(id) }})
	}
	return all
}
