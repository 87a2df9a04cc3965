package app_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// A user who is deleted is told of by when their tokens were issued, which a
// signer's clock may put some seconds ahead; each session by its id, which it
// can't.
func TestTokensOfADeletedAccountFromASignerWhoseClockIsAheadAreRefused(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	verifier, revoked := following(t, s, s.addr)
	testkit.Eventually(t, time.Minute, func() bool { return revoked.Age() < time.Second })
	accepts(t, tokens.GetAccessToken(), verifier)
	// The database's clock as the signer's would see it: behind.
	s.exec(t, "ALTER TABLE revocations ALTER COLUMN at SET DEFAULT clock_timestamp() - interval '20 seconds'")
	if _, err := s.accounts.DeleteMe(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
		&authv1.DeleteMeRequest{}); err != nil {
		t.Fatal(err)
	}
	rejected(t, tokens.GetAccessToken(), verifier)
}
