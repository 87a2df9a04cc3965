package app_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestAnAdminSeesAndEndsTheSessionsOfAUser(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	s.register(t, "bob@example.com")
	ada, bob := s.find(t, admin, "ada").GetUser().GetId(), s.find(t, admin, "bob").GetUser().GetId()
	var mine []*authv1.Tokens
	for range 3 {
		mine = append(mine, s.login(t, "ada@example.com"))
	}
	others := s.login(t, "bob@example.com")

	var seen []*authv1.Session
	request := &authv1.ListUserSessionsRequest{UserId: ada, PageSize: 2}
	for range 3 {
		list, err := s.admin.ListUserSessions(admin, request)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, list.GetSessions()...)
		if request.PageToken = list.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	if len(seen) != 3 || seen[0].GetSessionId() != claims(t, mine[2].GetAccessToken()).SessionID ||
		seen[0].GetIpAddress() != "127.0.0.1" || seen[0].GetCurrent() {
		t.Fatalf("%v", seen)
	}
	page, err := s.admin.ListUserSessions(admin, &authv1.ListUserSessionsRequest{UserId: ada, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.ListUserSessions(admin,
		&authv1.ListUserSessionsRequest{UserId: bob, PageToken: page.GetNextPageToken()})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")

	one := claims(t, mine[0].GetAccessToken()).SessionID
	_, err = s.admin.RevokeUserSession(admin, &authv1.RevokeUserSessionRequest{UserId: bob, SessionId: one})
	want(t, err, errs.KindNotFound, "NOT_FOUND") // it is ada's
	for range 2 {
		if _, err := s.admin.RevokeUserSession(admin,
			&authv1.RevokeUserSessionRequest{UserId: ada, SessionId: one}); err != nil {
			t.Fatal(err)
		}
	}
	s.eventuallyRefused(t, mine[0].GetAccessToken())
	s.me(t, mine[1].GetAccessToken())
	for _, left := range []int32{2, 0} {
		ended, err := s.admin.RevokeUserSessions(admin, &authv1.RevokeUserSessionsRequest{UserId: ada})
		if err != nil || ended.GetEndedSessions() != left {
			t.Fatal(ended, err)
		}
	}
	for _, m := range mine {
		_, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: m.GetRefreshToken()})
		want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	}
	s.me(t, others.GetAccessToken())
	events, err := s.admin.ListAuditEvents(admin, &authv1.ListAuditEventsRequest{SubjectId: ada,
		ActorId: s.find(t, admin, "root").GetUser().GetId()})
	if err != nil || len(events.GetEvents()) != 2 || events.GetEvents()[0].GetType() != "session.all_revoked" ||
		events.GetEvents()[0].GetReason() != "ADMIN" || events.GetEvents()[1].GetObjectId() != one {
		t.Error(events, err)
	}
}

func TestAnAdminSeesAndRevokesTheAPIKeysOfAUserAndSeesTheirIdentities(t *testing.T) {
	s, p := withProvider(t)
	admin := s.asAdmin(t)
	p.signedIn("ada", "ada@example.com", true)
	token := s.signIn(t, p).GetAccessToken()
	ada, root := claims(t, token).Subject, s.find(t, admin, "root").GetUser().GetId()
	key := s.apiKey(t, token)
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.admin.ListUserApiKeys(admin, &authv1.ListUserApiKeysRequest{UserId: ada})
	if err != nil || len(keys.GetApiKeys()) != 1 || keys.GetApiKeys()[0].GetLastUseTime() == nil {
		t.Fatal(keys, err)
	}
	identities, err := s.admin.ListUserIdentities(admin, &authv1.ListUserIdentitiesRequest{UserId: ada})
	if err != nil || len(identities.GetIdentities()) != 1 || identities.GetIdentities()[0].GetSubject() != "ada" {
		t.Fatal(identities, err)
	}
	id := keys.GetApiKeys()[0].GetApiKeyId()
	_, err = s.admin.RevokeUserApiKey(admin, &authv1.RevokeUserApiKeyRequest{UserId: root, ApiKeyId: id})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	for range 2 {
		if _, err := s.admin.RevokeUserApiKey(admin,
			&authv1.RevokeUserApiKeyRequest{UserId: ada, ApiKeyId: id}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	s.eventuallyRefused(t, exchanged.GetAccessToken())

	nobody := uuid.NewString()
	_, err = s.admin.ListUserSessions(admin, &authv1.ListUserSessionsRequest{UserId: nobody})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.ListUserApiKeys(admin, &authv1.ListUserApiKeysRequest{UserId: nobody})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.ListUserIdentities(admin, &authv1.ListUserIdentitiesRequest{UserId: nobody})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.RevokeUserSessions(admin, &authv1.RevokeUserSessionsRequest{UserId: nobody})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.ListUserApiKeys(admin, &authv1.ListUserApiKeysRequest{UserId: "ada@example.com"})
	if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != "user_id" {
		t.Error(e.Violations)
	}
	_, err = s.admin.ListUserSessions(grpcclient.WithToken(t.Context(), token),
		&authv1.ListUserSessionsRequest{UserId: root})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
}

// Whoever is about to be thrown out signs in again and again: each session is ended by one call or the next.
func TestSessionsThatBeginBesideTheirEndAreEndedOrBeganAfter(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ADDRESS=100000", "PURSER_ATTEMPTS_PER_ACCOUNT=100000")
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	ada := s.find(t, admin, "ada").GetUser().GetId()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 5 {
				if _, err := s.sessions.Login(t.Context(),
					&authv1.LoginRequest{Email: "ada@example.com", Password: password}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var ended int32
	for range 5 {
		resp, err := s.admin.RevokeUserSessions(admin, &authv1.RevokeUserSessionsRequest{UserId: ada})
		if err != nil {
			t.Fatal(err)
		}
		ended += resp.GetEndedSessions()
	}
	all.Wait()
	resp, err := s.admin.RevokeUserSessions(admin, &authv1.RevokeUserSessionsRequest{UserId: ada})
	if err != nil || ended+resp.GetEndedSessions() != 15 {
		t.Errorf("%d ended beside, %v after, of 15; %v", ended, resp, err)
	}
}

// An admin ends the sessions of an account because somebody else is in it. Their device is not to be known any longer,
// or their next sign-in would be reported to nobody and counted apart.
func TestNoDeviceOutlivesTheSessionsThatAnAdminEnds(t *testing.T) {
	for name, end := range map[string]func(s mailed, t *testing.T, root *authv1.Tokens, user, session string) error{
		"all": func(s mailed, t *testing.T, root *authv1.Tokens, user, _ string) error {
			_, err := s.admin.RevokeUserSessions(s.as(t, root), &authv1.RevokeUserSessionsRequest{UserId: user})
			return err
		},
		"one": func(s mailed, t *testing.T, root *authv1.Tokens, user, session string) error {
			_, err := s.admin.RevokeUserSession(s.as(t, root),
				&authv1.RevokeUserSessionRequest{UserId: user, SessionId: session})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailed(t)
			s.asAdmin(t)
			root := s.login(t, "root@example.com")
			s.registerVerified(t, ada)
			tokens := s.login(t, ada)
			c := claims(t, tokens.GetAccessToken())
			if n := s.count(t, "known_devices WHERE user_id = '"+c.Subject+"'"); n != 1 {
				t.Fatalf("%d devices", n)
			}
			if err := end(s, t, root, c.Subject, c.SessionID); err != nil {
				t.Fatal(err)
			}
			if n := s.count(t, "known_devices WHERE user_id = '"+c.Subject+"'"); n != 0 {
				t.Errorf("%d devices are known still", n)
			}
		})
	}
}
