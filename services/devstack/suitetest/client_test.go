package suitetest

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// register creates a user and returns their credentials.
func register(t *testing.T, c *client.Clients) (email, password string) {
	t.Helper()
	email, password = strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if _, err := c.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	return email, password
}

// dialAs returns clients with these credentials.
func dialAs(t *testing.T, s *suite.Suite, c client.Credentials, more ...grpc.DialOption) *client.Clients {
	t.Helper()
	clients, err := client.Dial(client.Config{
		Auth: s.Endpoints.Auth, Wallet: s.Endpoints.Wallet, Portfolio: s.Endpoints.Portfolio, Plaintext: true,
		Credentials: c,
	}, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	return clients
}

// dropFirstAnswer drops the first answer to a method after the server has sent it.
func dropFirstAnswer(method string, count *atomic.Int64) grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, m, req, reply, cc, opts...)
		if m == method && count.Add(1) == 1 && err == nil {
			return status.Error(codes.Unavailable, "the answer was lost")
		}
		return err
	})
}

func TestEveryCredentialOfTheClient(t *testing.T) {
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"auth": {"PURSER_ACCESS_TTL=6s"},
			"wallet": {"PURSER_GRPC_RATE_PER_SECOND=10000"}}
	})
	email, password := register(t, dial(t, s.Endpoints))
	person := dialAs(t, s, client.Password(email, password))
	list := func(c *client.Clients) error {
		_, err := c.Wallets.ListWallets(t.Context(), &walletv1.ListWalletsRequest{})
		return err
	}
	if err := list(person); err != nil {
		t.Fatal(err)
	}

	key, err := person.APIKeys.CreateApiKey(t.Context(),
		&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := person.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	if _, err := s.AuthCommand(t.Context(), "service-account", "ensure", "billing", "--permissions=wallet:read",
		"--secret-file="+file); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		credentials client.Credentials
		reason      string
	}{
		"an API key":               {client.APIKey(key.GetKey()), ""},
		"a wrong API key":          {client.APIKey("wrong"), "API_KEY_INVALID"},
		"a service account":        {client.ServiceAccount("billing", strings.TrimSpace(string(secret))), ""},
		"a service's wrong secret": {client.ServiceAccount("billing", "wrong"), "SERVICE_SECRET_INVALID"},
		"a token":                  {client.Token(begun.GetTokens().GetAccessToken()), ""},
		"a session":                {client.Session(begun.GetTokens().GetRefreshToken()), ""},
		"a session that isn't one": {client.Session("wrong"), "REFRESH_TOKEN_INVALID"},
		"a wrong password":         {client.Password(email, "wrong"), "INVALID_CREDENTIALS"},
		"nothing":                  {nil, "TOKEN_MISSING"},
	} {
		if err := list(dialAs(t, s, tt.credentials)); tt.reason == "" && err != nil ||
			tt.reason != "" && (errs.As(err) == nil || errs.As(err).Reason != tt.reason) {
			t.Errorf("with %s: %v, want %q", name, err, tt.reason)
		}
	}

	// Past the life of a token: the session is refreshed, and an answer that was
	// lost on the way doesn't end it.
	const refresh = "/purser.auth.v1.SessionService/Refresh"
	var refreshes atomic.Int64
	patient := dialAs(t, s, client.Password(email, password), dropFirstAnswer(refresh, &refreshes))
	testkit.Eventually(t, time.Minute, func() bool {
		if err := list(patient); err != nil {
			t.Fatal(err)
		}
		return refreshes.Load() >= 2
	})
	sessions, err := patient.Sessions.ListSessions(t.Context(), &authv1.ListSessionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	// Those of person, of begun, which client.Session went on with, and of patient.
	if n := len(sessions.GetSessions()); n != 3 {
		t.Errorf("%d sessions, want 3: a lost answer or a call began another", n)
	}
}

// The program of docs/client.md, as it stands.
func TestTheClientsExampleRuns(t *testing.T) {
	s := shared(t)
	email, password := register(t, dial(t, s.Endpoints))
	run := func(password string, accounts ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "go",
			append([]string{"run", "github.com/purserhq/purser/proto/client/example"}, accounts...)...)
		cmd.Env = append(os.Environ(), "EMAIL="+email, "PASSWORD="+password,
			"AUTH="+s.Endpoints.Auth, "WALLET="+s.Endpoints.Wallet, "PORTFOLIO="+s.Endpoints.Portfolio)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	holder := account(s, s.Chain.Holders()[0])
	for range 2 { // the wallet is there the second time
		if out, err := run(password, holder); err != nil || !strings.Contains(out, " USD in ") ||
			strings.Contains(out, " 0 positions") {
			t.Errorf("it ended with %v and printed %s", err, out)
		}
	}
	if out, err := run(password, "eip155:1:0x12"); err == nil || !strings.Contains(out, "account address must be") {
		t.Errorf("with a bad account it ended with %v and printed %s", err, out)
	}
	if out, err := run("wrong"); err == nil || !strings.Contains(out, "INVALID_CREDENTIALS") {
		t.Errorf("with a wrong password it ended with %v and printed %s", err, out)
	}
}
