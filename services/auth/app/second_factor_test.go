package app_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/pquerna/otp/totp"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// claims are what stands in an access token.
func claims(t *testing.T, token string) authn.Claims {
	t.Helper()
	var c authn.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	c, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestASecondFactorIsRequiredFromItsConfirmationOn(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ACCOUNT=60")
	s.register(t, "ada@example.com")
	first := s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), first.GetAccessToken())
	e, err := s.sessions.EnrollTotp(ada, &authv1.EnrollTotpRequest{})
	if err != nil || !strings.HasPrefix(e.GetUri(), "otpauth://totp/Purser:ada@example.com?") {
		t.Fatal(e, err)
	}
	s.login(t, "ada@example.com") // it is pending: not asked for
	now := time.Now()
	confirmed, err := s.sessions.ConfirmTotp(ada,
		&authv1.ConfirmTotpRequest{TotpCode: code(t, e.GetSecret(), now.Add(-30*time.Second))})
	if err != nil || len(confirmed.GetRecoveryCodes()) != 10 {
		t.Fatal(confirmed, err)
	}
	try := func(password, otp string) (*authv1.LoginResponse, error) {
		return s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password,
			SecondFactorCode: otp})
	}
	_, err = try(password, "")
	want(t, err, errs.KindUnauthenticated, "TOTP_REQUIRED")
	_, err = try("not the password", "")
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") // says nothing of a second factor
	_, err = try(password, strings.Repeat("9", 65))
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	in, err := try(password, code(t, e.GetSecret(), now))
	if err != nil {
		t.Fatal(err)
	}
	_, err = try(password, code(t, e.GetSecret(), now))
	want(t, err, errs.KindUnauthenticated, "TOTP_INVALID")
	refreshed, err := s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: in.GetTokens().GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	before, after := claims(t, in.GetTokens().GetAccessToken()), claims(t, refreshed.GetTokens().GetAccessToken())
	if strings.Join(after.AMR, " ") != "pwd otp mfa" || !after.AuthTime.Equal(before.AuthTime.Time) {
		t.Errorf("%v of %s, refreshed %v of %s", before.AMR, before.AuthTime, after.AMR, after.AuthTime)
	}
	disable := &authv1.DisableTotpRequest{SecondFactorCode: confirmed.GetRecoveryCodes()[0]}
	if _, err := s.sessions.DisableTotp(ada, disable); err != nil {
		t.Fatal(err)
	}
	s.login(t, "ada@example.com")
}

func TestChangesThatCouldLockAUserOutNeedReauthentication(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	session := claims(t, tokens.GetAccessToken()).SessionID
	err := s.db.Gorm(t.Context()).Exec("UPDATE sessions SET auth_time = now() - interval '11 minutes' WHERE id = ?",
		session).Error
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	ada := grpcclient.WithToken(t.Context(), old.GetTokens().GetAccessToken())
	for name, call := range map[string]func(ctx context.Context) error{
		"EnrollTotp": func(ctx context.Context) error {
			_, err := s.sessions.EnrollTotp(ctx, &authv1.EnrollTotpRequest{})
			return err
		},
		"ConfirmTotp": func(ctx context.Context) error {
			_, err := s.sessions.ConfirmTotp(ctx, &authv1.ConfirmTotpRequest{TotpCode: "123456"})
			return err
		},
		"DisableTotp": func(ctx context.Context) error {
			_, err := s.sessions.DisableTotp(ctx, &authv1.DisableTotpRequest{SecondFactorCode: "123456"})
			return err
		},
		"RenewRecoveryCodes": func(ctx context.Context) error {
			_, err := s.sessions.RenewRecoveryCodes(ctx, &authv1.RenewRecoveryCodesRequest{SecondFactorCode: "123456"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, call(ada), errs.KindPermissionDenied, "REAUTHENTICATION_REQUIRED")
		})
	}
	for range 2 {
		_, err = s.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{Password: "not the password"})
		want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	}
	fresh, err := s.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	c := claims(t, fresh.GetAccessToken())
	if c.SessionID != session || time.Since(c.AuthTime.Time) > time.Minute || strings.Join(c.AMR, " ") != "pwd" {
		t.Errorf("%+v", c)
	}
	if _, err := s.sessions.EnrollTotp(grpcclient.WithToken(t.Context(), fresh.GetAccessToken()),
		&authv1.EnrollTotpRequest{}); err != nil {
		t.Error(err)
	}
}

func TestCodesOfASignedInUserAreLimited(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	untilRefused(t, 5,
		func(int) error {
			_, err := s.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{Password: "not the password"})
			return err
		},
		func(err error) { want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") })
}
