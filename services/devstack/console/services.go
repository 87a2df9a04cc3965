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

// serviceAccount is the console's own, which reads keys and job runs.
const serviceAccount = "console"

// EnsureServiceAccount creates the console's service account with a command of the auth service, unless
// it exists, and returns its secret, which is stored in dir.
func EnsureServiceAccount(ctx context.Context, command func(ctx context.Context, args ...string) (string, error),
	dir string) (string, error) {
	file := filepath.Join(dir, "console-secret")
	if _, err := command(ctx, "service-account", "ensure", serviceAccount, "--permissions=admin:system",
		"--secret-file="+file); err != nil {
		return "", err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("console: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// services are the connections to the suite's services, with a token source of the user and one of
// the console's service account.
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
			&authv1.IssueServiceAccountTokenRequest{ClientId: serviceAccount, ClientSecret: o.Secret})
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

// signInRetryAfter is the pause after a refused sign-in: each attempt counts against the account.
const signInRetryAfter = time.Minute

// login holds a session of the user. Unlike client.Password it tries again after a refusal.
type login struct {
	sessions        authv1.SessionServiceClient
	email, password string

	mu           sync.Mutex
	refreshToken string
	refusal      error
	refusedUntil time.Time
}

// token refreshes the session, or signs in if there is none or it has ended.
func (l *login) token(ctx context.Context) (string, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.refusedUntil) {
		return "", time.Time{}, l.refusal
	}
	if l.refreshToken != "" {
		resp, err := l.sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: l.refreshToken})
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) {
			return l.store(resp.GetTokens(), err)
		}
	}
	resp, err := l.sessions.Login(ctx, &authv1.LoginRequest{Email: l.email, Password: l.password})
	if err != nil && !errs.Is(err, errs.KindUnavailable) {
		l.refusal, l.refusedUntil = err, time.Now().Add(signInRetryAfter)
	}
	return l.store(resp.GetTokens(), err)
}

func (l *login) store(t *authv1.Tokens, err error) (string, time.Time, error) {
	if err != nil {
		return "", time.Time{}, err
	}
	l.refreshToken = t.GetRefreshToken()
	return t.GetAccessToken(), t.GetAccessExpireTime().AsTime(), nil
}

// sections returns the panels of each section of the page, by the name of its template.
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

// panel loads its data with call, with a token from one of the two sources.
func (s *services) panel(service string, conn *grpc.ClientConn, tokens *authn.ServiceTokens,
	call func(context.Context) (any, error)) *panel {
	return s.newPanel(service, func(ctx context.Context) (any, error) {
		token, err := tokens.Token(ctx)
		if err != nil {
			s.auth.ResetConnectBackoff()
			return nil, tokenError(err, service)
		}
		data, err := call(grpcclient.WithToken(ctx, token))
		if errs.Is(err, errs.KindUnavailable) {
			conn.ResetConnectBackoff() // the page limits the attempts
		}
		return data, err
	})
}

func (s *services) newPanel(service string, load func(context.Context) (any, error)) *panel {
	maxAge := s.options.Refresh / 2
	return &panel{service: service, maxAge: maxAge, load: func(ctx context.Context) (any, error) {
		return load(withoutTrace(ctx))
	}}
}

// tokenError turns the error of a token source into the state of a panel: a refused sign-in, or auth
// being unavailable.
func tokenError(err error, service string) error {
	cause := errors.Unwrap(err)
	switch {
	case errs.Is(cause, errs.KindUnauthenticated):
		return cause
	case service == "auth":
		return err
	}
	return &dependencyError{service: "auth"}
}

func (s *services) health(service string, conn *grpc.ClientConn) *panel {
	return s.newPanel(service, func(ctx context.Context) (any, error) {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			conn.ResetConnectBackoff()
			return nil, err
		}
		if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			return nil, errs.Unavailable("NOT_SERVING", service+" is not serving")
		}
		return true, nil
	})
}

// withoutTrace keeps the page's own calls out of the traces, by a parent span that is not sampled.
func withoutTrace(ctx context.Context) context.Context {
	var id trace.TraceID
	var span trace.SpanID
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(span[:])
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span}))
}
