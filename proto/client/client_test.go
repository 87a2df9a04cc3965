package client_test

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

// auth is an auth service that gives tokens t1, t2 … and refresh tokens r1, r2 ….
type auth struct {
	authv1.UnimplementedSessionServiceServer
	authv1.UnimplementedAccountServiceServer
	addr string
	life time.Duration

	mu        sync.Mutex
	given     int
	logins    int
	presented []string // refresh tokens
	loses     int      // answers to Refresh, from the next one on
	revoked   bool     // every token
	shown     []string // authorization headers of GetMe
}

func startAuth(t *testing.T, life time.Duration) *auth {
	t.Helper()
	a := &auth{life: life}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.addr = lis.Addr().String()
	s := grpc.NewServer()
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, h)
	authv1.RegisterSessionServiceServer(s, a)
	authv1.RegisterAccountServiceServer(s, a)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return a
}

func (a *auth) dial(t *testing.T, c client.Credentials) *client.Clients {
	t.Helper()
	clients, err := client.Dial(client.Config{Auth: a.addr, Plaintext: true, Credentials: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	return clients
}

func (a *auth) tokens() *authv1.Tokens {
	a.given++
	return &authv1.Tokens{
		AccessToken: fmt.Sprint("t", a.given), RefreshToken: fmt.Sprint("r", a.given),
		AccessExpireTime: timestamppb.New(time.Now().Add(a.life)),
	}
}

func (a *auth) Login(ctx context.Context, req *authv1.LoginRequest) (*authv1.LoginResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logins++
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("authorization")) > 0 {
		return nil, status.Error(codes.Internal, "a token where there can be none yet")
	}
	if req.GetPassword() != "right" {
		return nil, grpcerr.ToStatus(errs.Unauthenticated("INVALID_CREDENTIALS", "wrong")).Err()
	}
	return &authv1.LoginResponse{Tokens: a.tokens()}, nil
}

func (a *auth) Refresh(_ context.Context, req *authv1.RefreshRequest) (*authv1.RefreshResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.presented = append(a.presented, req.GetRefreshToken())
	if a.loses > 0 {
		a.loses--
		return nil, status.Error(codes.Unavailable, "the answer was lost")
	}
	return &authv1.RefreshResponse{Tokens: a.tokens()}, nil
}

func (a *auth) GetMe(ctx context.Context, _ *authv1.GetMeRequest) (*authv1.GetMeResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	a.shown = append(a.shown, strings.Join(md.Get("authorization"), " and "))
	if a.revoked {
		return nil, grpcerr.ToStatus(errs.Unauthenticated("TOKEN_REVOKED", "revoked")).Err()
	}
	return &authv1.GetMeResponse{}, nil
}

func me(ctx context.Context, c *client.Clients) error {
	_, err := c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})
	return err
}

func TestManyCallsSignInOnce(t *testing.T) {
	a := startAuth(t, time.Hour)
	c := a.dial(t, client.Password("you@example.com", "right"))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := me(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if a.logins != 1 || len(a.shown) != 50 {
		t.Errorf("%d sign-ins for %d calls", a.logins, len(a.shown))
	}
	for _, header := range a.shown {
		if header != "Bearer t1" {
			t.Fatalf("a call carried %q", header)
		}
	}
}

func TestASessionIsRefreshedAheadAndSurvivesALostAnswer(t *testing.T) {
	a := startAuth(t, time.Second)
	a.loses = 1
	c := a.dial(t, client.Password("you@example.com", "right"))
	testkit.Eventually(t, time.Minute, func() bool {
		if err := me(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.presented) >= 3
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logins != 1 || strings.Join(a.presented[:3], " ") != "r1 r1 r2" {
		t.Errorf("%d sign-ins, presented %v", a.logins, a.presented)
	}
}

func TestACallThatIsRefusedForItsTokenIsNotRepeated(t *testing.T) {
	a := startAuth(t, time.Hour)
	c := a.dial(t, client.Password("you@example.com", "right"))
	if err := me(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.revoked = true
	a.mu.Unlock()
	for range 5 {
		if e := errs.As(me(t.Context(), c)); e == nil || e.Reason != "TOKEN_REVOKED" {
			t.Fatalf("the caller is told %v", e)
		}
	}
	if len(a.shown) != 6 || a.logins != 1 || len(a.presented) > 0 {
		t.Errorf("6 calls became %d, with %d sign-ins and %d refreshes", len(a.shown), a.logins, len(a.presented))
	}
}

func TestARefusalToSignInIsTheAnswer(t *testing.T) {
	a := startAuth(t, time.Hour)
	c := a.dial(t, client.Password("you@example.com", "wrong"))
	for range 5 {
		if e := errs.As(me(t.Context(), c)); e == nil || e.Kind != errs.KindUnauthenticated ||
			e.Reason != "INVALID_CREDENTIALS" {
			t.Fatalf("the caller is told %v", e)
		}
	}
	if a.logins != 1 || len(a.shown) > 0 {
		t.Errorf("%d sign-ins, %d calls", a.logins, len(a.shown))
	}
}

func TestATokenOfTheCallsOwnWins(t *testing.T) {
	a := startAuth(t, time.Hour)
	c := a.dial(t, client.Token("mine"))
	if err := me(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := me(grpcclient.WithToken(t.Context(), "theirs"), c); err != nil {
		t.Fatal(err)
	}
	if err := me(t.Context(), a.dial(t, nil)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", a.shown); got != `["Bearer mine" "Bearer theirs" ""]` {
		t.Errorf("the calls carried %s", got)
	}
}

// A service that serves calls with package grpcserver and calls out in its own
// name: that of who calls it is not borrowed.
func TestWithinAHandlerTheCallsAreOfTheCredentials(t *testing.T) {
	a := startAuth(t, time.Hour)
	of := authn.WithCaller(t.Context(), authn.Caller{Token: "of-the-user"})
	// Signing in is in nobody's name: Login of a refuses a token.
	c := a.dial(t, client.Password("you@example.com", "right"))
	for _, err := range []error{me(of, c), me(grpcclient.WithToken(of, "theirs"), c), me(of, a.dial(t, nil))} {
		if err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprintf("%q", a.shown); got != `["Bearer t1" "Bearer theirs" "Bearer of-the-user"]` {
		t.Errorf("the calls carried %s", got)
	}
}

func TestAWrongConfigurationIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  client.Config
		want string
	}{
		"credentials without auth": {client.Config{Wallet: "127.0.0.1:1", Plaintext: true,
			Credentials: client.APIKey("k")}, "need the address of auth"},
		"roots that aren't there": {client.Config{Portfolio: "127.0.0.1:1", CAFile: "/absent"},
			"portfolio: TLS roots"},
	} {
		if c, err := client.Dial(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	c, err := client.Dial(client.Config{Wallet: "127.0.0.1:1", Plaintext: true, Credentials: client.Token("t")})
	if err != nil || c.Wallets == nil || c.Accounts != nil || c.Portfolios != nil {
		t.Errorf("with wallet's address alone: %+v, %v", c, err)
	}
	_ = c.Close()
}

// A service of the contracts without a client would be noticed only by its first
// user. JobService has a client for each program that serves it.
func TestEveryServiceHasItsClient(t *testing.T) {
	services := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "purser.") {
			services += f.Services().Len()
		}
		return true
	})
	c, err := client.Dial(client.Config{Auth: "127.0.0.1:1", Wallet: "127.0.0.1:1", Portfolio: "127.0.0.1:1",
		Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	v, clients := reflect.ValueOf(*c), map[reflect.Type]int{}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		clients[v.Type().Field(i).Type]++
		if v.Field(i).IsNil() {
			t.Errorf("%s is not set", v.Type().Field(i).Name)
		}
	}
	if len(clients) != services {
		t.Errorf("clients of %d services, the contracts have %d", len(clients), services)
	}
	for of, n := range clients {
		want := 1
		if of == reflect.TypeFor[jobsv1.JobServiceClient]() || of == reflect.TypeFor[statusv1.StatusServiceClient]() {
			want = 3 // of auth, wallet and portfolio
		}
		if n != want {
			t.Errorf("%d clients of the type %s, want %d", n, of, want)
		}
	}
}
