package suitetest

import (
	"context"
	"encoding/hex"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
)

// freePort returns an unused port.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// userLink is a link of the login page, with the user's name.
var userLink = regexp.MustCompile(`<a href="([^"]*)">(\w+)`)

// browse opens a page, follows the link of a user on the login page, and returns the address that the redirects end
// at.
func browse(t *testing.T, page, user string) *url.URL {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &http.Client{Jar: jar}
	resp, err := b.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(body), "Who are you?") {
		t.Fatalf("%v\n%s", err, body)
	}
	var link string
	for _, found := range userLink.FindAllStringSubmatch(string(body), -1) {
		if found[2] == user {
			link = html.UnescapeString(found[1])
		}
	}
	at, err := resp.Request.URL.Parse(link)
	if err != nil || link == "" {
		t.Fatalf("no link of %s: %v\n%s", user, err, body)
	}
	resp, err = b.Get(at.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Request.URL
}

// me returns the user of the tokens.
func me(t *testing.T, c *demo.Clients, tokens *authv1.Tokens) *authv1.User {
	t.Helper()
	resp, err := c.Accounts.GetMe(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()), &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetUser()
}

func TestABrowserSignsInWithTheLocalProviders(t *testing.T) {
	s := start(t)
	c := dial(t, s.Endpoints)
	ids := map[string]string{}
	for _, provider := range []string{"local", "local-github", "local"} {
		end := browse(t, s.HostedStart(provider), "ada")
		if !strings.HasPrefix(end.String(), s.Login.AppURL()+"?code=") {
			t.Fatal(end)
		}
		resp, err := c.Sessions.ExchangeLoginCode(t.Context(),
			&authv1.ExchangeLoginCodeRequest{Code: end.Query().Get("code")})
		if err != nil {
			t.Fatal(err)
		}
		u := me(t, c, resp.GetTokens())
		ids[u.GetId()] = u.GetEmail()
		_, err = c.Wallets.ListWallets(grpcclient.WithToken(t.Context(), resp.GetTokens().GetAccessToken()),
			&walletv1.ListWalletsRequest{})
		if err != nil {
			t.Error("the token is of no use:", err)
		}
	}
	if len(ids) != 1 { // the same verified address at both
		t.Error(ids)
	}
	for _, provider := range []string{"local", "local-github"} {
		if end := browse(t, s.HostedStart(provider),
			"unverified"); end.Query().Get("error") != "PROVIDER_EMAIL_UNVERIFIED" {
			t.Error(end)
		}
	}

	started, err := c.Sessions.StartOAuth(t.Context(),
		&authv1.StartOAuthRequest{Provider: "local", RedirectUri: s.Login.AppURL()})
	if err != nil {
		t.Fatal(err)
	}
	back := browse(t, started.GetAuthorizationUrl(), "ada").Query()
	finish := &authv1.FinishOAuthRequest{State: back.Get("state"), Code: back.Get("code"), Secret: started.GetSecret(),
		Iss: back.Get("iss")}
	resp, err := c.Sessions.FinishOAuth(t.Context(), finish)
	if err != nil || ids[me(t, c, resp.GetTokens()).GetId()] == "" {
		t.Fatal(resp, err)
	}
	_, err = c.Sessions.FinishOAuth(t.Context(), finish)
	wantError(t, err, codes.Unauthenticated, "OAUTH_STATE_INVALID")
}

func TestWalletsOfAKeyAndOfAContractSignIn(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	alice, bob := s.Chain.Cast().Alice, s.Chain.Cast().Bob
	contract, err := s.Chain.DeployWallet(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	signIn := func(ctx context.Context, address string, by chain.Account) (*authv1.Tokens, error) {
		return signInWithWallet(ctx, c, s.Chain.ChainID(), address, by)
	}
	ids := map[string]bool{}
	for _, address := range []string{alice.Address.Hex(), contract.Hex(), alice.Address.Hex(), contract.Hex()} {
		tokens, err := signIn(t.Context(), address, alice)
		if err != nil {
			t.Fatal(address, err)
		}
		ids[me(t, c, tokens).GetId()] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d accounts of a key and a contract", len(ids))
	}
	// the last contract is not deployed
	for _, address := range []string{alice.Address.Hex(), contract.Hex(), chain.WalletOf(bob).Hex()} {
		_, err := signIn(t.Context(), address, bob)
		wantError(t, err, codes.Unauthenticated, "WALLET_SIGNATURE_INVALID")
	}
	again, err := s.Chain.DeployWallet(t.Context(), alice)
	if err != nil || again != contract {
		t.Error(again, err)
	}
}

// signInWithWallet signs in with a wallet by the signature of an account.
func signInWithWallet(ctx context.Context, c *demo.Clients, chainID uint64, address string, by chain.Account) (
	*authv1.Tokens, error) {
	started, err := c.Sessions.StartWalletLogin(ctx,
		&authv1.StartWalletLoginRequest{Address: address, ChainId: chainID})
	if err != nil {
		return nil, err
	}
	sig, err := by.SignMessage(started.GetMessage())
	if err != nil {
		return nil, err
	}
	resp, err := c.Sessions.FinishWalletLogin(ctx,
		&authv1.FinishWalletLoginRequest{Message: started.GetMessage(), Signature: "0x" + hex.EncodeToString(sig)})
	return resp.GetTokens(), err
}
