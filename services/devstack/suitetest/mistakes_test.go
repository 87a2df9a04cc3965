package suitetest

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/internal/mailserver"
)

var update = flag.Bool("update", false, "write testdata/mistakes.txt anew")

// mistake is a call as a person gets it wrong.
type mistake struct {
	name string
	call func(context.Context) error // of alice, who is signed in
}

// blunderer makes the mistakes: with plain connections, as grpcurl does.
type blunderer struct {
	s                                         *suite.Suite
	auth, wallet, portfolio                   *grpc.ClientConn
	email, password                           string
	tokens                                    *authv1.Tokens
	apiKey, apiKeyToken                       string
	walletID, staleEtag, pageToken, requestID string
	expiredCode                               string
	old                                       string // an access token of a sign-in of an hour ago
	retired                                   string // an expired access token of a key that nobody knows any more
}

// Every mistake is made with a real call, and what its maker is told is kept in a file, which is reviewed like code.
// Run with -update to write it, and read each text that changed as the person who made the mistake.
func TestMistakesAreExplained(t *testing.T) {
	s := shared(t)
	b := newBlunderer(t, s)
	alice := bearing(t.Context(), b.tokens.GetAccessToken())
	var out strings.Builder
	mistakes := b.mistakes()
	for _, m := range mistakes {
		err := m.call(alice)
		if err == nil {
			t.Errorf("%s: the call succeeded", m.name)
			continue
		}
		text := normal(answer(err))
		for _, secret := range []string{b.password, b.tokens.GetAccessToken(), b.tokens.GetRefreshToken(), b.apiKey,
			b.apiKeyToken, b.expiredCode, b.old, b.retired, "hunter2", "s3cret"} {
			if strings.Contains(answer(err), secret) {
				t.Errorf("%s: the answer repeats a secret: %s", m.name, text)
			}
		}
		fmt.Fprintf(&out, "%s\n%s\n", m.name, text)
	}
	if len(mistakes) < 60 {
		t.Errorf("only %d mistakes", len(mistakes))
	}
	file := filepath.Join("testdata", "mistakes.txt")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		t.Errorf("the answers differ from %s; run with -update and read them:\n%s", file, firstDifference(got,
			string(want)))
	}
}

// answer is what the maker of a mistake sees of an error, one part a line.
func answer(err error) string {
	s := status.Convert(err)
	var b strings.Builder
	reason, fields, facts, retry := "no reason", []string(nil), []string(nil), ""
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
			for _, name := range slices.Sorted(maps.Keys(d.GetMetadata())) {
				facts = append(facts, name+" = "+d.GetMetadata()[name])
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				fields = append(fields, v.GetField()+": "+v.GetDescription())
			}
		case *errdetails.RetryInfo:
			retry = ", with a time to retry"
		}
	}
	fmt.Fprintf(&b, "  %s (%s)%s\n", s.Code(), reason, retry)
	for _, f := range fields {
		fmt.Fprintf(&b, "  - %s\n", f)
	}
	if s.Message() != strings.Join(fields, "; ") {
		fmt.Fprintf(&b, "  %s\n", s.Message())
	}
	for _, f := range facts {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}

var (
	times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	// Tokens are as long as the address of the issuer makes them.
	lengths = regexp.MustCompile(`got \d{3,} characters, not repeated`)
	uuids   = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
)

// normal replaces what differs from run to run. The example of a UUID, and years that the mistakes choose, stay.
func normal(text string) string {
	text = times.ReplaceAllStringFunc(text, func(at string) string {
		if strings.HasPrefix(at, "2010") || strings.HasPrefix(at, "2023") {
			return at
		}
		return "<time>"
	})
	text = lengths.ReplaceAllString(text, "got <many> characters, not repeated")
	return uuids.ReplaceAllStringFunc(text, func(id string) string {
		if id == "0199ed3c-5a2e-7c4e-9d0f-3b1f4c5d6e7f" {
			return id
		}
		return "<uuid>"
	})
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is\n%s\nand was\n%s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, and %d before", len(g), len(w))
}

// bearing returns a context that sends an access token.
func bearing(ctx context.Context, token string) context.Context {
	return sending(ctx, "Bearer "+token)
}

// sending returns a context that sends an authorization header.
func sending(ctx context.Context, header ...string) context.Context {
	ctx = metadata.NewOutgoingContext(ctx, nil)
	for _, h := range header {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", h)
	}
	return ctx
}

func newBlunderer(t *testing.T, s *suite.Suite) *blunderer {
	t.Helper()
	b := &blunderer{s: s, email: strings.ToLower(rand.Text()) + "@example.com", password: rand.Text()}
	for _, c := range []struct {
		conn **grpc.ClientConn
		addr string
	}{{&b.auth, s.Endpoints.Auth}, {&b.wallet, s.Endpoints.Wallet}, {&b.portfolio, s.Endpoints.Portfolio}} {
		conn, err := grpc.NewClient("passthrough:///"+c.addr,
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		*c.conn = conn
	}
	db, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_auth"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	b.signUp(t, db)
	b.addThings(t)
	b.retired = retiredToken(t, s.Issuer())
	return b
}

// signUp registers alice, lets her mailed code expire, and makes her tokens.
func (b *blunderer) signUp(t *testing.T, db *pgx.Conn) {
	t.Helper()
	accounts, sessions := authv1.NewAccountServiceClient(b.auth), authv1.NewSessionServiceClient(b.auth)
	must(t)(accounts.Register(t.Context(), &authv1.RegisterRequest{Email: b.email, Password: b.password}))
	m, err := b.s.Mail.Wait(t.Context(), b.email, func(mailserver.Mail) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	b.expiredCode = demo.Code(m)
	login := func() *authv1.Tokens {
		resp, err := sessions.Login(t.Context(), &authv1.LoginRequest{Email: b.email, Password: b.password})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetTokens()
	}
	aged := login()
	for _, change := range []string{
		`UPDATE mailed_codes SET expires_at = now() - interval '1 minute'
			WHERE user_id = (SELECT id FROM users WHERE email = $1)`,
		`UPDATE sessions SET auth_time = now() - interval '1 hour'
			WHERE user_id = (SELECT id FROM users WHERE email = $1)`,
	} {
		if _, err := db.Exec(t.Context(), change, b.email); err != nil {
			t.Fatal(err)
		}
	}
	refreshed, err := sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: aged.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	b.old, b.tokens = refreshed.GetTokens().GetAccessToken(), login()
}

// addThings makes what the mistakes are made with: an API key, a wallet that has changed, and a page of wallets.
func (b *blunderer) addThings(t *testing.T) {
	t.Helper()
	alice := bearing(t.Context(), b.tokens.GetAccessToken())
	keys, wallets := authv1.NewApiKeyServiceClient(b.auth), walletv1.NewWalletServiceClient(b.wallet)
	key, err := keys.CreateApiKey(alice, &authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	exchanged, err := keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key.GetKey()})
	if err != nil {
		t.Fatal(err)
	}
	b.apiKey, b.apiKeyToken = key.GetKey(), exchanged.GetAccessToken()
	b.requestID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	made, err := wallets.CreateWallet(alice, &walletv1.CreateWalletRequest{
		Account: account(b.s, b.s.Chain.Holders()[0]), RequestId: b.requestID})
	if err != nil {
		t.Fatal(err)
	}
	b.walletID, b.staleEtag = made.GetWallet().GetId(), made.GetWallet().GetEtag()
	must(t)(wallets.UpdateWallet(alice, &walletv1.UpdateWalletRequest{WalletId: b.walletID, Label: "changed"}))
	must(t)(wallets.CreateWallet(alice, &walletv1.CreateWalletRequest{Account: account(b.s, b.s.Chain.Holders()[1])}))
	page, err := wallets.ListWallets(alice, &walletv1.ListWalletsRequest{PageSize: 1})
	if err != nil || page.GetNextPageToken() == "" {
		t.Fatalf("first page: %v, %v", page, err)
	}
	b.pageToken = page.GetNextPageToken()
	must(t)(portfoliov1.NewPortfolioServiceClient(b.portfolio).GetPortfolio(alice,
		&portfoliov1.GetPortfolioRequest{}))
}

// must fails the test for an error of a call.
func must(t *testing.T) func(any, error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}
