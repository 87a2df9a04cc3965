package app_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// As a published list with one of the deployment's own before it.
func TestTokensOfSeveralListsAreRead(t *testing.T) {
	write := func(entries string) string {
		path := filepath.Join(t.TempDir(), "list.json")
		if err := os.WriteFile(path, []byte(`{"tokens":[`+entries+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const entry = `{"chainId":1,"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","symbol":"%s","decimals":6}`
	own, other := fmt.Sprintf(entry, "OWN"), fmt.Sprintf(entry, "OTHER")
	logs := &testkit.LogBuffer{}
	s := replica(t, testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), servicetest.NoRedis, "", logs,
		"PURSER_TOKEN_LIST="+write(own)+","+write(other+","+other+","+strings.Replace(other, ":1,", ":137,", 1)))
	resp, err := s.tokens.ListTokens(s.user(t), &walletv1.ListTokensRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, token := range resp.GetTokens() {
		chain, _, _ := strings.Cut(token.GetId(), "/")
		got = append(got, chain+" "+token.GetSymbol())
	}
	slices.Sort(got)
	if listed := strings.Join(got, ", "); listed != "eip155:1 OWN, eip155:137 OTHER, eip155:137 POL" {
		t.Errorf("listed %s", listed)
	}
	if !logs.Contains("repeated=1") && !logs.Contains(`"repeated":1`) {
		t.Errorf("the log doesn't tell of the entry that is there twice: %s", logs)
	}
}

// Published lists have thousands of entries. One of 10,000 is read, listed whole in pages, and read again by the next
// replica without a change.
func TestAListOfThousandsIsReadWhole(t *testing.T) {
	const many = 10_000
	var list strings.Builder
	for i := range many {
		_, _ = fmt.Fprintf(&list, `,{"chainId":137,"address":"0xaa%038x","symbol":"T%d","name":"Token","decimals":18}`,
			i, i)
	}
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	for range 2 {
		s := replica(t, db, issuer, servicetest.NoRedis, `{"tokens":[`+list.String()[1:]+`]}`, io.Discard)
		ctx, seen := s.user(t), map[string]bool{}
		r := &walletv1.ListTokensRequest{PageSize: 500}
		for {
			page, err := s.tokens.ListTokens(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range page.GetTokens() {
				seen[k.GetSymbol()] = k.GetVerified()
			}
			if r.PageToken = page.GetNextPageToken(); r.PageToken == "" {
				break
			}
		}
		if len(seen) != many+1 || !seen["T0"] || !seen["T9999"] { // and the native coin
			t.Errorf("%d tokens are listed, want %d", len(seen), many+1)
		}
	}
}
