package suitetest

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func (b *blunderer) signInMistakes() []mistake {
	accounts, sessions := authv1.NewAccountServiceClient(b.auth), authv1.NewSessionServiceClient(b.auth)
	keys := authv1.NewApiKeyServiceClient(b.auth)
	register := func(name, email, password, display string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return get(accounts.Register(ctx,
				&authv1.RegisterRequest{Email: email, Password: password, DisplayName: display}))
		}}
	}
	const good = "a stable of nine horses"
	return []mistake{
		register("an e-mail address in another script", "ада@example.com", good, ""),
		register("a domain with an umlaut", "ada@bücher.example", good, ""),
		register("an e-mail address without an @", "ada.example.com", good, ""),
		register("a space behind the e-mail address", "ada@example.com ", good, ""),
		register("a password in the place of the e-mail address", "hunter2", good, ""),
		register("a password that is too short", "ada@example.com", "hunter2", ""),
		register("a password that everybody knows", "ada@example.com", "passwordpassword", ""),
		register("the e-mail address as the password", "ada.lovelace@example.com", "ada.lovelace@example.com", ""),
		register("nothing to register with", "", "", ""),
		register("everything wrong to register with", "ada", "s3cret", "a\x00b"),
		{"a wrong password", func(ctx context.Context) error {
			return get(sessions.Login(ctx, &authv1.LoginRequest{Email: b.email, Password: "hunter2"}))
		}},
		{"a sign-in without a password", func(ctx context.Context) error {
			return get(sessions.Login(ctx, &authv1.LoginRequest{Email: b.email}))
		}},
		{"an access token to refresh with", func(ctx context.Context) error {
			return get(sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: b.tokens.GetAccessToken()}))
		}},
		{"a refresh token that is cut", func(ctx context.Context) error {
			return get(sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: b.tokens.GetRefreshToken()[:30]}))
		}},
		{"a mailed code that is expired", func(ctx context.Context) error {
			return get(accounts.VerifyEmail(ctx, &authv1.VerifyEmailRequest{Code: b.expiredCode}))
		}},
		{"a made-up code for a new password", func(ctx context.Context) error {
			return get(accounts.CompletePasswordReset(ctx,
				&authv1.CompletePasswordResetRequest{Code: "hunter2", NewPassword: good}))
		}},
		{"a wrong API key", func(ctx context.Context) error {
			return get(keys.ExchangeApiKey(ctx, &authv1.ExchangeApiKeyRequest{Key: "hunter2"}))
		}},
		{"a wrong secret of a service account", func(ctx context.Context) error {
			return get(sessions.IssueServiceAccountToken(ctx,
				&authv1.IssueServiceAccountTokenRequest{ClientId: "portfolio", ClientSecret: "hunter2"}))
		}},
		{"a wrong checksum and another chain to sign in with", func(ctx context.Context) error {
			return get(sessions.StartWalletLogin(ctx,
				&authv1.StartWalletLoginRequest{Address: wrongChecksum(someAddress), ChainId: 5}))
		}},
		{"an ENS name to sign in with", func(ctx context.Context) error {
			return get(sessions.StartWalletLogin(ctx,
				&authv1.StartWalletLoginRequest{Address: "vitalik.eth", ChainId: 31337}))
		}},
		{"an unknown provider", func(ctx context.Context) error {
			return get(sessions.StartOAuth(ctx,
				&authv1.StartOAuthRequest{Provider: "Google", RedirectUri: "https://a.example"}))
		}},
	}
}

func (b *blunderer) ownAccountMistakes() []mistake {
	accounts, sessions := authv1.NewAccountServiceClient(b.auth), authv1.NewSessionServiceClient(b.auth)
	keys := authv1.NewApiKeyServiceClient(b.auth)
	profile := func(name string, p *authv1.Profile, paths ...string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return get(accounts.UpdateProfile(ctx,
				&authv1.UpdateProfileRequest{Profile: p, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}))
		}}
	}
	key := func(name string, r *authv1.CreateApiKeyRequest) mistake {
		return mistake{name, func(ctx context.Context) error { return get(keys.CreateApiKey(ctx, r)) }}
	}
	return []mistake{
		profile("no update_mask", &authv1.Profile{Bio: "x"}),
		profile("the JSON name of a field in the update_mask", &authv1.Profile{}, "displayName"),
		profile("a picture over http, and a line break in the name",
			&authv1.Profile{PictureUrl: "http://pictures.example/a", FirstName: "A\nda"}, "picture_url", "first_name"),
		{"a change of password with a wrong one", func(ctx context.Context) error {
			return get(accounts.ChangePassword(ctx, &authv1.ChangePasswordRequest{CurrentPassword: "hunter2",
				NewPassword: "a stable of nine horses"}))
		}},
		{"a wrong password to prove a sign-in with", func(ctx context.Context) error {
			return get(sessions.Reauthenticate(ctx, &authv1.ReauthenticateRequest{Password: "hunter2"}))
		}},
		{"a code of a second factor that was never set up", func(ctx context.Context) error {
			return get(sessions.ConfirmTotp(ctx, &authv1.ConfirmTotpRequest{TotpCode: "123456"}))
		}},
		{"a session_id that is no UUID", func(ctx context.Context) error {
			return get(sessions.RevokeSession(ctx, &authv1.RevokeSessionRequest{SessionId: b.tokens.GetAccessToken()}))
		}},
		key("an API key with a scope that its owner doesn't have",
			&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:any"}}),
		key("an API key without a name and scopes", &authv1.CreateApiKeyRequest{}),
		key("an API key of yesterday for a host and not a range", &authv1.CreateApiKeyRequest{Name: "bot",
			Scopes: []string{"wallet:read"}, AllowedCidrs: []string{"192.0.2.1", "192.0.2.1/24"},
			ExpireTime: timestamppb.New(time.Now().Add(-24 * time.Hour))}),
	}
}
