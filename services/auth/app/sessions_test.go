package app_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/store"
)

func TestAUserListsAndEndsTheirSessionsAndIntrospectionSeesIt(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	s.register(t, "eve@example.com")
	first, second := s.login(t, "ada@example.com"), s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), second.GetAccessToken())
	eve := grpcclient.WithToken(t.Context(), s.login(t, "eve@example.com").GetAccessToken())

	list, err := s.sessions.ListSessions(ada, &authv1.ListSessionsRequest{PageSize: 1})
	if err != nil || len(list.GetSessions()) != 1 || !list.GetSessions()[0].GetCurrent() ||
		list.GetNextPageToken() == "" {
		t.Fatal(list, err)
	}
	if one := list.GetSessions()[0]; !strings.HasPrefix(one.GetUserAgent(), "grpc-go/") ||
		one.GetIpAddress() != "127.0.0.1" {
		t.Errorf("%v", one)
	}
	_, err = s.sessions.ListSessions(eve, &authv1.ListSessionsRequest{PageToken: list.GetNextPageToken()})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	list, err = s.sessions.ListSessions(ada, &authv1.ListSessionsRequest{PageSize: 1,
		PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetCurrent() ||
		list.GetNextPageToken() != "" {
		t.Fatal(list, err)
	}
	older := list.GetSessions()[0].GetSessionId()

	seen, err := s.tokens.Introspect(eve, &authv1.IntrospectRequest{Token: first.GetAccessToken()})
	if err != nil || !seen.GetActive() || seen.GetSid() != older || len(seen.GetPermissions()) == 0 {
		t.Fatal(seen, err)
	}
	for _, id := range []string{older, uuid.NewString()} {
		_, err = s.sessions.RevokeSession(eve, &authv1.RevokeSessionRequest{SessionId: id})
		want(t, err, errs.KindNotFound, "NOT_FOUND")
	}
	if _, err := s.sessions.RevokeSession(ada, &authv1.RevokeSessionRequest{SessionId: older}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		seen, err := s.tokens.Introspect(eve, &authv1.IntrospectRequest{Token: first.GetAccessToken()})
		return err == nil && !seen.GetActive()
	})
	for _, token := range []string{first.GetAccessToken(), "no token", second.GetRefreshToken()} {
		if seen, err := s.tokens.Introspect(eve, &authv1.IntrospectRequest{Token: token}); err != nil ||
			seen.GetActive() || seen.GetSub() != "" {
			t.Errorf("%v, %v", seen, err)
		}
	}
	for _, token := range []string{second.GetAccessToken(), second.GetRefreshToken(), "no token", "no.access.token"} {
		if _, err := s.tokens.Revoke(t.Context(), &authv1.RevokeRequest{Token: token}); err != nil {
			t.Errorf("%v", err)
		}
	}
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: second.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	if _, err := s.sessions.LogoutAll(eve, &authv1.LogoutAllRequest{}); err != nil {
		t.Fatal(err)
	}
	list, err = s.sessions.ListSessions(eve, &authv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 0 {
		t.Error(list, err)
	}
}

func TestSessionsThatEndedLongAgoArePrunedWithTheirTokens(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	old, fresh := s.login(t, "ada@example.com"), s.login(t, "ada@example.com")
	for _, tokens := range []*authv1.Tokens{old, fresh} {
		if _, err := s.sessions.Refresh(t.Context(),
			&authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()}); err != nil {
			t.Fatal(err)
		}
	}
	db := s.db.Gorm(context.WithoutCancel(t.Context()))
	err := db.Exec(`UPDATE sessions SET revoked_at = now() - interval '31 days'
		WHERE id = (SELECT min(id::text)::uuid FROM sessions)`).Error
	if err != nil {
		t.Fatal(err)
	}
	sessions := store.NewSessions(s.db.DB)
	if err := sessions.Prune(t.Context(), 30*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	counts := func() (families, tokens, sealed int) {
		err := db.Raw(`SELECT (SELECT count(*) FROM sessions), count(*), count(sealed_successor)
			FROM refresh_tokens`).Row().Scan(&families, &tokens, &sealed)
		if err != nil {
			t.Fatal(err)
		}
		return families, tokens, sealed
	}
	if families, tokens, sealed := counts(); families != 1 || tokens != 2 || sealed != 1 {
		t.Error(families, tokens, sealed)
	}
	if err := sessions.EraseSuccessors(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, _, sealed := counts(); sealed != 1 {
		t.Error("what can be recovered was erased")
	}
	testkit.Eventually(t, time.Minute, func() bool {
		if err := sessions.EraseSuccessors(t.Context(), time.Microsecond); err != nil {
			t.Fatal(err)
		}
		_, _, sealed := counts()
		return sealed == 0
	})
}
