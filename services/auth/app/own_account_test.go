package app_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestAProfileIsChangedFieldByField(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada := grpcclient.WithToken(t.Context(), token)
	full := &authv1.Profile{
		DisplayName: " Ada 🦊 ", FirstName: "Ада", LastName: "Lovelace", Bio: "one\ntwo",
		PictureUrl: "https://pictures.example/ada.png?size=1",
	}
	all := []string{"display_name", "first_name", "last_name", "bio", "picture_url"}
	update := func(p *authv1.Profile, paths ...string) *authv1.Profile {
		t.Helper()
		resp, err := s.accounts.UpdateProfile(ada,
			&authv1.UpdateProfileRequest{Profile: p, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetProfile()
	}
	if got := update(full, all...); got.GetDisplayName() != "Ada 🦊" || got.GetFirstName() != "Ада" {
		t.Errorf("%v", got)
	}
	s.me(t, token) // cached now
	got := update(&authv1.Profile{FirstName: "Augusta", LastName: "not named"}, "first_name", "bio")
	if got.GetFirstName() != "Augusta" || got.GetLastName() != "Lovelace" || got.GetBio() != "" ||
		got.GetPictureUrl() != full.GetPictureUrl() {
		t.Errorf("%v", got)
	}
	me := s.me(t, token)
	if me.GetProfile().GetFirstName() != "Augusta" || me.GetDisplayName() != "Ada 🦊" ||
		me.GetEmail() != "ada@example.com" {
		t.Errorf("GetMe says %v", me)
	}
}

func TestAProfileNamesTheFieldThatIsWrong(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	for _, tc := range []struct {
		name, field string
		profile     *authv1.Profile
		paths       []string
	}{
		{"no mask", "update_mask", &authv1.Profile{Bio: "x"}, nil},
		{"every field at once", "update_mask", &authv1.Profile{}, []string{"*"}},
		{"the whole profile", "update_mask", &authv1.Profile{}, []string{"profile"}},
		{"an address", "update_mask", &authv1.Profile{}, []string{"bio", "email"}},
		{"roles", "update_mask", &authv1.Profile{}, []string{"roles"}},
		{"a column", "update_mask", &authv1.Profile{}, []string{"password_hash"}},
		{"the JSON name", "update_mask", &authv1.Profile{}, []string{"displayName"}},
		{"a path within a field", "update_mask", &authv1.Profile{}, []string{"bio.x"}},
		{"NUL", "profile.first_name", &authv1.Profile{FirstName: "a\x00"}, []string{"first_name"}},
		{"a name that reads backwards", "profile.display_name", &authv1.Profile{DisplayName: "a\u202eb"},
			[]string{"display_name"}},
		{"NUL in the bio", "profile.bio", &authv1.Profile{Bio: "a\n\x00"}, []string{"bio"}},
		{"a bio of 501 characters", "profile.bio", &authv1.Profile{Bio: strings.Repeat("ü", 501)}, []string{"bio"}},
		{"http", "profile.picture_url", &authv1.Profile{PictureUrl: "http://pictures.example/a"},
			[]string{"picture_url"}},
		{"a script", "profile.picture_url", &authv1.Profile{PictureUrl: "javascript:alert(1)"},
			[]string{"picture_url"}},
		{"a user in the URL", "profile.picture_url", &authv1.Profile{PictureUrl: "https://a:b@pictures.example/a"},
			[]string{"picture_url"}},
		{"no host", "profile.picture_url", &authv1.Profile{PictureUrl: "https:///a"}, []string{"picture_url"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.accounts.UpdateProfile(ada,
				&authv1.UpdateProfileRequest{Profile: tc.profile, UpdateMask: &fieldmaskpb.FieldMask{Paths: tc.paths}})
			e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != tc.field {
				t.Errorf("violations %v, want %q", e.Violations, tc.field)
			}
		})
	}
	_, err := s.accounts.UpdateProfile(ada, &authv1.UpdateProfileRequest{})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
}

func (s mailed) change(ctx context.Context, current, fresh string) error {
	_, err := s.accounts.ChangePassword(ctx, &authv1.ChangePasswordRequest{CurrentPassword: current,
		NewPassword: fresh})
	return err
}

func TestAChangeOfPasswordEndsTheOtherSessionsAndTellsTheOwner(t *testing.T) {
	s := startMailed(t)
	s.registerVerified(t, "ada@example.com")
	mine, other := s.login(t, "ada@example.com"), s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), mine.GetAccessToken())
	s.askReset(t, "ada@example.com")
	asked := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))
	want(t, s.change(ada, "not my password", newPassword), errs.KindPermissionDenied, "PASSWORD_WRONG")
	want(t, s.change(ada, "", newPassword), errs.KindPermissionDenied, "PASSWORD_WRONG")
	for name, bad := range map[string]string{"short": password[:14], "known": "123456789123456789"} {
		if e := want(t, s.change(ada, password, bad), errs.KindInvalid,
			"INVALID_ARGUMENT"); e.Violations[0].Field != "new_password" {
			t.Errorf("%s: %v", name, e.Violations)
		}
	}
	if err := s.change(ada, password, newPassword); err != nil {
		t.Fatal(err)
	}
	if m := s.wait(t, "ada@example.com", changedSubject, 1); strings.Contains(m.Body, newPassword) {
		t.Errorf("the mail says %q", m.Body)
	}
	if _, err := s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: mine.GetRefreshToken()}); err != nil {
		t.Errorf("the caller's own session: %v", err)
	}
	_, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: other.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	want(t, s.complete(t, asked, password), errs.KindFailedPrecondition, "CODE_INVALID") // asked for before
	_, err = s.tryLogin(t, "ada@example.com", password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
}

func TestOfTwoConcurrentChangesOfAPasswordOneSucceeds(t *testing.T) {
	s := startMailed(t, "PURSER_PASSWORD_HASHES_AT_ONCE=16")
	s.register(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	var done atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			switch err := s.change(ada, password, newPassword); {
			case err == nil:
				done.Add(1)
			case errs.As(err) != nil && (errs.As(err).Reason == "PASSWORD_CHANGED" ||
				errs.As(err).Reason == "PASSWORD_WRONG"):
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("%d changed it", done.Load())
	}
}

func TestAStolenTokenGuessesAtThePasswordFiveTimesAMinute(t *testing.T) {
	s := startMailed(t, "PURSER_ATTEMPTS_PER_ACCOUNT=5")
	s.register(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	untilRefused(t, 5,
		func(int) error { return s.change(ada, "not my password", newPassword) },
		func(err error) { want(t, err, errs.KindPermissionDenied, "PASSWORD_WRONG") })
	s.login(t, "ada@example.com") // the owner is not kept out
}

func TestTheFirstPasswordOfAnAccountNeedsARecentSignIn(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), tokens.GetAccessToken())
	exec := func(query string) {
		t.Helper()
		if _, err := s.db.SQL().ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec("UPDATE users SET password_hash = NULL; UPDATE sessions SET auth_time = now() - interval '11 minutes'")
	stale, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	late := grpcclient.WithToken(t.Context(), stale.GetTokens().GetAccessToken())
	want(t, s.change(late, "", newPassword), errs.KindPermissionDenied, "REAUTHENTICATION_REQUIRED")
	_, err = s.accounts.DeleteMe(late, &authv1.DeleteMeRequest{})
	want(t, err, errs.KindPermissionDenied, "REAUTHENTICATION_REQUIRED")
	want(t, s.change(ada, password, newPassword), errs.KindPermissionDenied, "PASSWORD_WRONG")
	if err := s.change(ada, "", newPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := s.tryLogin(t, "ada@example.com", newPassword); err != nil {
		t.Fatal(err)
	}
	exec("UPDATE users SET password_hash = NULL, email = NULL")
	want(t, s.change(ada, "", newPassword), errs.KindFailedPrecondition, "EMAIL_REQUIRED")
}

func TestADeletedAccountLeavesNothingPersonal(t *testing.T) {
	s := startMailed(t)
	s.registerVerified(t, "ada@example.com")
	s.register(t, "bob@example.com")
	tokens := s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), tokens.GetAccessToken())
	bob := s.login(t, "bob@example.com")
	key := s.apiKey(t, tokens.GetAccessToken())
	id := s.me(t, tokens.GetAccessToken()).GetId()
	s.askReset(t, "ada@example.com")
	reset := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))
	bot, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	asBot := grpcclient.WithToken(t.Context(), bot.GetAccessToken())
	_, err = s.accounts.DeleteMe(asBot, &authv1.DeleteMeRequest{})
	want(t, err, errs.KindPermissionDenied, "API_KEY_CALLER")
	want(t, s.change(asBot, password, newPassword), errs.KindPermissionDenied, "API_KEY_CALLER")
	_, err = s.accounts.UpdateProfile(asBot,
		&authv1.UpdateProfileRequest{UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bio"}}})
	want(t, err, errs.KindPermissionDenied, "API_KEY_CALLER")

	if _, err := s.accounts.DeleteMe(ada, &authv1.DeleteMeRequest{}); err != nil {
		t.Fatal(err)
	}
	s.wait(t, "ada@example.com", deletedSubject, 1)
	for of, n := range map[string]int{
		"users WHERE id = '" + id + "'":                              0,
		"sessions WHERE user_id = '" + id + "'":                      0,
		"api_keys":                                                   0,
		"mailed_codes WHERE user_id = '" + id + "'":                  0,
		"mails WHERE user_id = '" + id + "'":                         0,
		"audit_personal WHERE subject = '" + id + "'":                0,
		"audit_events WHERE type = 'account.deleted'":                1,
		"revocations WHERE kind = 'USER' AND subject = '" + id + "'": 1,
		"audit_personal": s.count(t,
			"audit_events WHERE subject IS DISTINCT FROM '"+id+"'"),
		"audit_events WHERE subject = '" + id + "' AND actor = '" + id +
			"'": s.count(t, "audit_events WHERE actor = '"+id+"'"),
	} {
		if got := s.count(t, of); got != n {
			t.Errorf("%d %s, not %d", got, of, n)
		}
	}
	if s.count(t, "audit_events WHERE subject = '"+id+"'") < 4 {
		t.Error("what was recorded is gone")
	}
	s.eventuallyRefused(t, tokens.GetAccessToken())
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "REFRESH_TOKEN_INVALID")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	want(t, s.complete(t, reset, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = s.tryLogin(t, "ada@example.com", password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	s.me(t, bob.GetAccessToken())
	s.register(t, "ada@example.com") // the address is free
	if again := s.me(t, s.login(t, "ada@example.com").GetAccessToken()); again.GetId() == id ||
		again.GetEmailVerified() {
		t.Errorf("%v", again)
	}
}
