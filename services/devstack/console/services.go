package console

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

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

// services are the connections to the suite's services, with a token source of the console's service account.
type services struct {
	options                 Options
	auth, wallet, portfolio *grpc.ClientConn
	operator                *authn.ServiceTokens
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

// sections returns the panels that are the same for every viewer, by section.
func (s *services) sections() map[string][]*panel {
	found := map[string][]*panel{"keys": {s.panel("auth", s.auth, s.operator, s.keys)}}
	for _, of := range []struct {
		name string
		conn *grpc.ClientConn
	}{{"auth", s.auth}, {"wallet", s.wallet}, {"portfolio", s.portfolio}} {
		found["status"] = append(found["status"], s.status(of.name, of.conn))
		found["jobs"] = append(found["jobs"], s.panel(of.name, of.conn, s.operator, jobRuns(of.conn)))
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
		switch {
		case errs.Is(err, errs.KindUnavailable):
			conn.ResetConnectBackoff() // the page limits the attempts
		case errs.Is(err, errs.KindUnauthenticated):
			tokens.Forget(token) // its session has ended
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

// withoutTrace keeps the page's own calls out of the traces, by a parent span that is not sampled.
func withoutTrace(ctx context.Context) context.Context {
	var id trace.TraceID
	var span trace.SpanID
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(span[:])
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span}))
}
