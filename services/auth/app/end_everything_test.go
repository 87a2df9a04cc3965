package app_test

import (
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestEverythingOfAnAccountIsEndedAtOnce(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	s.register(t, "bob@example.com")
	mine, other := s.login(t, "ada@example.com"), s.login(t, "ada@example.com")
	bobs := s.login(t, "bob@example.com")
	bobsKey := s.apiKey(t, bobs.GetAccessToken())
	ada := grpcclient.WithToken(t.Context(), mine.GetAccessToken())
	keys := []string{s.apiKey(t, mine.GetAccessToken()), s.apiKey(t, mine.GetAccessToken())}
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: keys[0]})
	if err != nil {
		t.Fatal(err)
	}
	verification := mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1))
	s.askReset(t, "ada@example.com")
	reset := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))

	_, err = s.identities.EndEverything(grpcclient.WithToken(t.Context(), exchanged.GetAccessToken()),
		&authv1.EndEverythingRequest{})
	want(t, err, errs.KindPermissionDenied, "API_KEY_CALLER")
	ended, err := s.identities.EndEverything(ada, &authv1.EndEverythingRequest{})
	if err != nil || ended.GetEndedSessions() != 2 || ended.GetRevokedApiKeys() != 2 || ended.GetEndedCodes() != 2 {
		t.Fatal(ended, err)
	}
	_, err = s.identities.EndEverything(ada, &authv1.EndEverythingRequest{}) // with the ended session
	if !errs.Is(err, errs.KindUnauthenticated) {
		t.Error(err)
	}
	for _, tokens := range []*authv1.Tokens{mine, other} {
		_, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
		want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	}
	for _, key := range keys {
		_, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
		want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	}
	want(t, s.verify(t, verification), errs.KindFailedPrecondition, "CODE_INVALID")
	want(t, s.complete(t, reset, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	for _, token := range []string{mine.GetAccessToken(), other.GetAccessToken(), exchanged.GetAccessToken()} {
		s.eventuallyRefused(t, token)
	}
	s.login(t, "ada@example.com") // the password stays
	s.me(t, bobs.GetAccessToken())
	if _, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: bobsKey}); err != nil {
		t.Error(err)
	}
	if n := s.count(t, "audit_events WHERE type = 'account.everything_ended'"); n != 1 {
		t.Errorf("%d events", n)
	}
}
