package app_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// A thief with another session does all that leaves something behind, at the moment at which the owner ends
// everything. What comes first is ended, and what comes after is refused.
func TestNothingIsLeftWhereTheEndOfEverythingMeetsOtherCalls(t *testing.T) {
	s := startMailed(t)
	var made, refused atomic.Int64
	for round := range 50 {
		email := fmt.Sprintf("ada-%d@example.com", round)
		s.register(t, email)
		owner, thief := s.as(t, s.login(t, email)), s.login(t, email)
		as, id := s.as(t, thief), claims(t, thief.GetAccessToken()).Subject
		var all sync.WaitGroup
		for _, call := range []func(){
			func() {
				refresh := thief.GetRefreshToken()
				for range 5 {
					resp, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: refresh})
					if err != nil {
						return
					}
					refresh = resp.GetTokens().GetRefreshToken()
				}
			},
			func() {
				for range 3 {
					created, err := s.keys.CreateApiKey(as, &authv1.CreateApiKeyRequest{Name: "thief",
						Scopes: []string{"wallet:read"}})
					if err != nil {
						refused.Add(1)
						return
					}
					made.Add(1)
					_, _ = s.keys.ExchangeApiKey(t.Context(),
						&authv1.ExchangeApiKeyRequest{Key: created.GetKey()}) // it may have ended
				}
			},
			func() { _ = s.askChange(as, "thief@example.com") }, // each may be refused
			func() { _, _ = s.sessions.EnrollTotp(as, &authv1.EnrollTotpRequest{}) },
			func() {
				_, _ = s.sessions.Reauthenticate(as, &authv1.ReauthenticateRequest{Password: password})
			},
		} {
			all.Go(call)
		}
		if _, err := s.identities.EndEverything(owner, &authv1.EndEverythingRequest{}); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		for _, what := range []string{"sessions", "api_keys"} {
			if n := s.count(t, what+" WHERE revoked_at IS NULL AND user_id = '"+id+"'"); n != 0 {
				t.Fatalf("round %d: %d %s are left", round, n, what)
			}
		}
		for _, what := range []string{"mailed_codes", "known_devices"} {
			if n := s.count(t, what+" WHERE user_id = '"+id+"'"); n != 0 {
				t.Fatalf("round %d: %d %s are left", round, n, what)
			}
		}
	}
	if made.Load() == 0 || refused.Load() == 0 { // the control: they do meet
		t.Errorf("%d keys were made, and %d refused", made.Load(), refused.Load())
	}
}
