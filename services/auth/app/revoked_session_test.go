package app_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// A token outlives its session until the revocation is heard of. Mallory, whose
// account in advance Ada has just taken over, must not make a way back in then.
func TestATokenOfARevokedSessionChangesNothingOfTheAccount(t *testing.T) {
	s := withWallets(t, "PURSER_ATTEMPTS_PER_ACCOUNT=1000")
	s.register(t, "ada@example.com")
	ctx := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	var links []*authv1.LinkWalletRequest // one for the control, and one that was begun before the session ended
	for range 2 {
		w := newWallet(t)
		message := s.linkMessage(t, ctx, w.address)
		links = append(links, &authv1.LinkWalletRequest{Message: message, Signature: hexed(w.sign(message))})
	}
	calls := []struct {
		name string
		call func() error
	}{
		{"UpdateProfile", func() error {
			_, err := s.accounts.UpdateProfile(ctx, &authv1.UpdateProfileRequest{
				Profile: &authv1.Profile{Bio: "x"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bio"}},
			})
			return err
		}},
		{"LinkWallet", func() error {
			_, err := s.identities.LinkWallet(ctx, links[0])
			links = links[1:]
			return err
		}},
		{"StartWalletLink", func() error {
			_, err := s.identities.StartWalletLink(ctx, &authv1.StartWalletLinkRequest{Address: newWallet(t).address,
				ChainId: 1})
			return err
		}},
		{"CreateApiKey", func() error {
			_, err := s.keys.CreateApiKey(ctx,
				&authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"portfolio:read"}})
			return err
		}},
		{"EnrollTotp", func() error {
			_, err := s.sessions.EnrollTotp(ctx, &authv1.EnrollTotpRequest{})
			return err
		}},
		{"ChangePassword", func() error {
			s.exec(t, "UPDATE users SET password_hash = NULL") // as of an account that was taken over
			_, err := s.accounts.ChangePassword(ctx,
				&authv1.ChangePasswordRequest{NewPassword: "the horse of mallory"})
			return err
		}},
	}
	for _, c := range calls { // the control
		if err := c.call(); err != nil {
			t.Fatal(c.name, err)
		}
	}
	s.exec(t, "UPDATE sessions SET revoked_at = now()") // which no verifier has heard of
	for _, c := range calls {
		if e := errs.As(c.call()); e == nil || e.Reason != "SESSION_REVOKED" {
			t.Errorf("%s: %v", c.name, e)
		}
	}
	if _, err := s.accounts.DeleteMe(ctx, &authv1.DeleteMeRequest{}); errs.As(err) == nil ||
		errs.As(err).Reason != "SESSION_REVOKED" {
		t.Error(err)
	}
}
