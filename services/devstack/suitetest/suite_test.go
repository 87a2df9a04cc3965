package suitetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// spans records what all suites of this process trace.
var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	os.Exit(m.Run())
}

// history of the chains in these tests: long enough for balances to have
// moved.
const history = 60 * time.Hour

// start runs a suite of its own for a test.
func start(t *testing.T, change ...func(*suite.Options)) *suite.Suite {
	t.Helper()
	o := suite.Options{
		Dir: folder(t), History: history,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, c := range change {
		c(&o)
	}
	// No wallet is synced but those that a test syncs, unless it says so.
	o.Extra = maps.Clone(o.Extra)
	if o.Extra == nil {
		o.Extra = map[string][]string{}
	}
	o.Extra["wallet"] = append([]string{"PURSER_SYNC_CRON=0 0 29 2 *"}, o.Extra["wallet"]...)
	s, err := suite.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

// folder is one that Postgres's own user may enter, which those of t.TempDir
// are not.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser-suite-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func dial(t *testing.T, e suite.Endpoints) *demo.Clients {
	t.Helper()
	c, err := demo.Dial(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// signIn makes a user of its own and returns a context in their name, and
// their tokens.
func signIn(t *testing.T, c *demo.Clients) (context.Context, *authv1.Tokens) {
	t.Helper()
	email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if _, err := c.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), resp.GetTokens().GetAccessToken()), resp.GetTokens()
}

func account(s *suite.Suite, address fmt.Stringer) string {
	return fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), address)
}

// addWallet adds and syncs a wallet.
func addWallet(t *testing.T, ctx context.Context, c *demo.Clients, account string) *walletv1.Wallet {
	t.Helper()
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	synced, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()})
	if err != nil {
		t.Fatal(err)
	}
	return synced.GetWallet()
}

// wantError checks the code and the reason that a caller sees.
func wantError(t *testing.T, err error, code codes.Code, reason string) *errs.Error {
	t.Helper()
	e := errs.As(grpcerr.FromError(err))
	if e == nil || grpcerr.ToStatus(e).Code() != code || e.Reason != reason {
		t.Fatalf("got %v (status %s), want %s %s", err, status.Code(err), code, reason)
	}
	return e
}
