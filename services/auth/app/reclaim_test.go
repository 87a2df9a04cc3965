package app_test

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// Mallory registers Ada's address and leaves ways back; Ada takes the mail for
// her own, verifies the address and, knowing no password, sets one.
func TestAResetRemovesWhatWasAddedBeforeTheAddressWasVerified(t *testing.T) {
	s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example")
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	id := s.me(t, token).GetId()
	planted, own := newWallet(t), newWallet(t)
	s.link(t, token, planted)
	plantedKey := s.apiKey(t, token)
	if err := s.verify(t, mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1))); err != nil {
		t.Fatal(err)
	}
	s.link(t, token, own)
	ownKey := s.apiKey(t, token)
	if got := s.service.me(t, s.signInWith(t, planted).GetAccessToken()); got.GetId() != id {
		t.Fatal("the control: before the reset it signs in")
	}
	s.askReset(t, "ada@example.com")
	if err := s.complete(t, mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1)), newPassword); err != nil {
		t.Fatal(err)
	}
	if got := s.service.me(t, s.signInWith(t, planted).GetAccessToken()); got.GetId() == id {
		t.Error("a wallet from before signs in")
	}
	_, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: plantedKey})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	if !slices.Contains(s.events(t), "account.reclaimed OK ADDED_UNVERIFIED") {
		t.Error(s.events(t))
	}
	if got := s.service.me(t, s.signInWith(t, own).GetAccessToken()); got.GetId() != id {
		t.Error("a wallet from after the verification is gone")
	}
	if _, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: ownKey}); err != nil {
		t.Error(err)
	}
}
