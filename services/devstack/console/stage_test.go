package console_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/console"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
)

const (
	email    = "ada@example.com"
	password = "a long enough passphrase"
)

// ringSpans is how many spans the test keeps, and so more than the traces of them.
const ringSpans = 4096

// screenshotDir is where screenshots are written to; "" for none.
func screenshotDir() string { return os.Getenv("PURSER_SCREENSHOTS") }

// history of the chain: that of make run if screenshots are taken.
func history() time.Duration {
	if screenshotDir() != "" {
		return 90 * 24 * time.Hour
	}
	return 60 * time.Hour
}

// stage is a suite with a user, and a console on it.
type stage struct {
	*suite.Suite
	clients *demo.Clients
	ring    *traces.Ring
	console *console.Console
	user    context.Context //nolint:containedctx // carries the user's token
	token   string
	secret  string
}

// never is a cron schedule whose next time no test reaches.
const never = "0 0 29 2 *"

// withoutDemo makes a console that shows nobody's portfolio to who has not signed in.
func withoutDemo(o *console.Options) { o.Email, o.Password, o.NoUser = "", "", "There is no demo." }

func startStage(t *testing.T, change ...func(*console.Options)) *stage {
	t.Helper()
	s := &stage{ring: traces.NewRing(ringSpans)}
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.ring)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	dir := testkit.Folder(t)
	var err error
	s.Suite, err = suite.Start(t.Context(), suite.Options{
		Dir: dir, History: history(), Defi: true, Log: slog.New(
			slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		// The newest trace is one of the test, and not of a job that is due meanwhile.
		Extra: map[string][]string{"wallet": {"PURSER_SYNC_CRON=" + never, "PURSER_TRANSACTIONS_CRON=" + never},
			"portfolio": {"PURSER_RECOMPUTE_CRON=" + never}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if s.clients, err = demo.Dial(s.Endpoints); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.clients.Close() })
	s.signUp(t)
	if s.secret, err = console.EnsureServiceAccount(t.Context(), s.AuthCommand, dir); err != nil {
		t.Fatal(err)
	}
	o := console.Options{
		Addr: "127.0.0.1:0", Endpoints: s.Endpoints, Email: email, Password: password, Secret: s.secret,
		ExampleAccount: fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), s.Chain.Holders()[0].Hex()),
		Traces:         s.ring, Refresh: 300 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	if s.console, err = console.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.console.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// as signs an account in and returns a context with its token.
func (s *stage) as(t *testing.T, email, code string) context.Context {
	t.Helper()
	in, err := s.clients.Sessions.Login(t.Context(),
		&authv1.LoginRequest{Email: email, Password: password, SecondFactorCode: code})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), in.GetTokens().GetAccessToken())
}

// signUp registers the user and adds the chain's demo holders as wallets.
func (s *stage) signUp(t *testing.T) {
	t.Helper()
	if _, err := s.clients.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	in, err := s.clients.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	s.token = in.GetTokens().GetAccessToken()
	s.user = grpcclient.WithToken(t.Context(), s.token)
	for _, h := range s.Chain.Holders() {
		made, err := s.clients.Wallets.CreateWallet(s.user,
			&walletv1.CreateWalletRequest{Account: fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), h.Hex())})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.clients.Wallets.SyncWallet(s.user,
			&walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()}); err != nil {
			t.Fatal(err)
		}
	}
}
