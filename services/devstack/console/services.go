package console

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// account is the service account that reads keys and job runs.
const account = "console"

// Ensure makes the service account by a command of the auth service, and
// returns its secret, which is kept in dir.
func Ensure(ctx context.Context, command func(ctx context.Context, args ...string) (string, error),
	dir string) (string, error) {
	file := filepath.Join(dir, "console-secret")
	if _, err := command(ctx, "service-account", "ensure", account, "--permissions=admin:system",
		"--secret-file="+file); err != nil {
		return "", err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("console: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// services are connections to the suite's.
type services struct {
	options                 Options
	auth, wallet, portfolio *grpc.ClientConn
	user, operator          *authn.ServiceTokens
}

func dial(o Options) (*services, error) {
	s := &services{options: o}
	for _, d := range []struct {
		addr string
		conn **grpc.ClientConn
	}{{o.Endpoints.Auth, &s.auth}, {o.Endpoints.Wallet, &s.wallet}, {o.Endpoints.Portfolio, &s.portfolio}} {
		conn, err := grpcclient.Dial(grpcclient.Config{Addr: d.addr, Plaintext: true}, nil)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("console: %w", err), s.close())
		}
		*d.conn = conn
	}
	sessions := authv1.NewSessionServiceClient(s.auth)
	s.user = authn.NewServiceTokens((&login{sessions: sessions, email: o.Email, password: o.Password}).token, nil)
	s.operator = authn.NewServiceTokens(func(ctx context.Context) (string, time.Time, error) {
		resp, err := sessions.IssueServiceAccountToken(ctx,
			&authv1.IssueServiceAccountTokenRequest{ClientId: account, ClientSecret: o.Secret})
		return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), err
	}, nil)
	return s, nil
}

func (s *services) close() error {
	var failures []error
	for _, conn := range []*grpc.ClientConn{s.auth, s.wallet, s.portfolio} {
		if conn != nil {
			failures = append(failures, conn.Close())
		}
	}
	return errors.Join(failures...)
}

// refusedFor is how long a sign-in that was refused is not tried again: each
// one counts against the account.
const refusedFor = time.Minute

// login keeps one session of the user.
type login struct {
	sessions        authv1.SessionServiceClient
	email, password string

	mu      sync.Mutex
	refresh string
	refused error
	until   time.Time
}

// token goes on with the session, or begins one.
func (l *login) token(ctx context.Context) (string, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until) {
		return "", time.Time{}, l.refused
	}
	if l.refresh != "" {
		resp, err := l.sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: l.refresh})
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) {
			return l.keep(resp.GetTokens(), err)
		}
	}
	resp, err := l.sessions.Login(ctx, &authv1.LoginRequest{Email: l.email, Password: l.password})
	if err != nil && !errs.Is(err, errs.KindUnavailable) {
		l.refused, l.until = err, time.Now().Add(refusedFor)
	}
	return l.keep(resp.GetTokens(), err)
}

func (l *login) keep(t *authv1.Tokens, err error) (string, time.Time, error) {
	if err != nil {
		return "", time.Time{}, err
	}
	l.refresh = t.GetRefreshToken()
	return t.GetAccessToken(), t.GetAccessExpireTime().AsTime(), nil
}

// sections of the page, by the name of their template.
func (s *services) sections() map[string][]*panel {
	found := map[string][]*panel{
		"services": {s.health("auth", s.auth), s.health("wallet", s.wallet), s.health("portfolio", s.portfolio)},
		"keys":     {s.panel("auth", s.auth, s.operator, s.keys)},
		"jobs": {
			s.panel("auth", s.auth, s.operator, jobRuns(s.auth)),
			s.panel("wallet", s.wallet, s.operator, jobRuns(s.wallet)),
			s.panel("portfolio", s.portfolio, s.operator, jobRuns(s.portfolio)),
		},
		"value": {}, "holdings": {},
	}
	if s.options.Email != "" {
		found["value"] = []*panel{s.panel("portfolio", s.portfolio, s.user, s.value)}
		found["holdings"] = []*panel{s.panel("portfolio", s.portfolio, s.user, s.holdings)}
	}
	return found
}

// panel of what a service is asked for with one of the two tokens.
func (s *services) panel(service string, conn *grpc.ClientConn, tokens *authn.ServiceTokens,
	ask func(context.Context) (any, error)) *panel {
	return &panel{service: service, load: func(ctx context.Context) (any, error) {
		ctx = unseen(ctx)
		token, err := tokens.Token(ctx)
		if err != nil {
			s.auth.ResetConnectBackoff()
			return nil, s.withoutToken(err, service)
		}
		data, err := ask(grpcclient.WithToken(ctx, token))
		if errs.Is(err, errs.KindUnavailable) {
			conn.ResetConnectBackoff() // it is asked every two seconds anyway
		}
		return data, err
	}}
}

// withoutToken tells a sign-in that was refused from an auth that is away.
func (s *services) withoutToken(err error, service string) error {
	cause := errors.Unwrap(err)
	switch {
	case errs.Is(cause, errs.KindUnauthenticated):
		return cause
	case service == "auth":
		return err
	}
	return &behindError{service: "auth"}
}

func (s *services) health(service string, conn *grpc.ClientConn) *panel {
	return &panel{service: service, load: func(ctx context.Context) (any, error) {
		resp, err := healthpb.NewHealthClient(conn).Check(unseen(ctx), &healthpb.HealthCheckRequest{})
		if err != nil {
			conn.ResetConnectBackoff()
			return nil, err
		}
		if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			return nil, errs.Unavailable("NOT_SERVING", service+" is not serving")
		}
		return true, nil
	}}
}

// unseen keeps a call out of the traces: the page looks every two seconds, and
// would show little but itself.
func unseen(ctx context.Context) context.Context {
	var id trace.TraceID
	var span trace.SpanID
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(span[:])
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span}))
}
