package app_test

import (
	"io"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// What the list no longer has is still shown, and leaves the totals.
func TestATokenThatIsTakenOffTheListIsNoLongerVerified(t *testing.T) {
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	verified := func(s service) map[string]bool {
		t.Helper()
		resp, err := s.tokens.ListTokens(s.user(t), &walletv1.ListTokensRequest{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, token := range resp.GetTokens() {
			out[token.GetSymbol()] = token.GetVerified()
		}
		return out
	}
	first := verified(replica(t, db, issuer, servicetest.NoRedis, tokenList, io.Discard))
	// POL is the native coin of a chain with a node, which the list doesn't have.
	if len(first) != 4 || !first["ETH"] || !first["AAA"] || !first["BBB"] || !first["POL"] {
		t.Fatal(first)
	}
	shorter := tokenList[:strings.LastIndex(tokenList, ",\n")] + "]}"
	second := verified(replica(t, db, issuer, servicetest.NoRedis, shorter, io.Discard))
	if len(second) != 4 || !second["ETH"] || !second["AAA"] || second["BBB"] || !second["POL"] {
		t.Errorf("after BBB was taken off: %v", second)
	}
	if again := verified(replica(t, db, issuer, servicetest.NoRedis, tokenList, io.Discard)); !again["BBB"] {
		t.Errorf("after it was listed again: %v", again)
	}
}
