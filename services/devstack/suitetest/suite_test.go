package suitetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// spans records what all suites of this process trace.
var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// history of the chains in these tests: long enough for balances to have
// moved.
const history = 60 * time.Hour

// sharedSuite is what start makes by default, for all tests that need no options of their own and leave
// every part of it running.
var sharedSuite = sync.OnceValues(func() (*suite.Suite, error) {
	dir, remove, err := testkit.MakeFolder()
	if err != nil {
		return nil, err
	}
	removeShared = remove
	return suite.Start(context.Background(), withoutSyncJob(suite.Options{
		Dir: dir, History: history,
		Extra: map[string][]string{"auth": {"PURSER_ATTEMPTS_PER_ADDRESS=10000"}}, // all tests share the address
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}))
})

// removeShared removes the folder of sharedSuite; nil before it is started.
var removeShared func() error

// shared returns a running suite. Each test brings its own users; one that stops a service starts it
// again.
func shared(t *testing.T) *suite.Suite {
	t.Helper()
	s, err := sharedSuite()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stopShared stops sharedSuite, if a test has started it.
func stopShared() error {
	if removeShared == nil {
		return nil
	}
	s, err := sharedSuite()
	if err == nil {
		err = errors.Join(checkKeys(s), s.Stop())
	}
	return errors.Join(err, removeShared())
}

// ownKey matches the keys that a service may have in Redis.
var ownKey = regexp.MustCompile(`^purser:(auth|wallet|portfolio):`)

// checkKeys returns an error for each key that the tests have left in Redis without the prefix of its service: a Redis
// that is shared would mix it with those of others, and an ACL would refuse it.
func checkKeys(s *suite.Suite) error {
	o, err := redis.ParseURL(s.Redis.URL())
	if err != nil {
		return err
	}
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	var wrong []error
	keys := c.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		if !ownKey.MatchString(keys.Val()) {
			wrong = append(wrong, fmt.Errorf("the key %q in Redis begins with no service's prefix", keys.Val()))
		}
	}
	return errors.Join(append(wrong, keys.Err())...)
}

// stopService stops a service of the shared suite until the test ends. The suite is then whole again
// as soon as a valuation, which needs all three services, succeeds.
func stopService(t *testing.T, s *suite.Suite, name string) {
	t.Helper()
	if err := s.StopService(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		// Its port is one that connections get too: a caller that dials it while nobody listens may be given it.
		var restarted error
		testkit.Eventually(t, time.Minute, func() bool {
			restarted = s.RestartService(ctx, name)
			return restarted == nil || !strings.Contains(restarted.Error(), "address already in use")
		})
		if restarted != nil {
			t.Fatal(restarted)
		}
		c, err := demo.Dial(s.Endpoints)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		user, _ := signInUntil(t, ctx, c)
		testkit.Eventually(t, recoveryTimeout, func() bool {
			v, err := c.Portfolios.GetValuation(user, &portfoliov1.GetValuationRequest{})
			return err == nil && !v.GetValuation().GetStale()
		})
	})
}

// withoutSyncJob keeps wallet's job from syncing wallets, unless the options set its schedule.
func withoutSyncJob(o suite.Options) suite.Options {
	o.Extra = maps.Clone(o.Extra)
	if o.Extra == nil {
		o.Extra = map[string][]string{}
	}
	o.Extra["wallet"] = append([]string{"PURSER_SYNC_CRON=0 0 29 2 *"}, o.Extra["wallet"]...)
	return o
}

// start runs a suite for one test.
func start(t *testing.T, change ...func(*suite.Options)) *suite.Suite {
	t.Helper()
	o := suite.Options{
		Dir: testkit.Folder(t), History: history,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := suite.Start(t.Context(), withoutSyncJob(o))
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

// startInfrastructure runs what the services of one test stand on, in a folder of its own and with the chain's history
// of all tests, for services that the test starts as programs.
func startInfrastructure(t *testing.T, o suite.Options) *suite.Infrastructure {
	t.Helper()
	o.Dir, o.History = testkit.Folder(t), history
	b, err := suite.StartInfrastructure(t.Context(), o)
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
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

// signIn registers a new user and returns a context with their access token, and their tokens.
func signIn(t *testing.T, c *demo.Clients) (context.Context, *authv1.Tokens) {
	t.Helper()
	return signInUntil(t, t.Context(), c)
}

// signInUntil is signIn for a context that may outlive the test.
func signInUntil(t *testing.T, ctx context.Context, c *demo.Clients) (context.Context, *authv1.Tokens) {
	t.Helper()
	email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if _, err := c.Accounts.Register(ctx,
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Sessions.Login(ctx, &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(ctx, resp.GetTokens().GetAccessToken()), resp.GetTokens()
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
