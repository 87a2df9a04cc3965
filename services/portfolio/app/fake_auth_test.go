package app_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// fakeAuth has one service account, "portfolio" with the secret "of-a-test".
type fakeAuth struct {
	authv1.UnimplementedSessionServiceServer
	token string
}

func (a *fakeAuth) IssueServiceAccountToken(_ context.Context,
	r *authv1.IssueServiceAccountTokenRequest) (*authv1.IssueServiceAccountTokenResponse, error) {
	if r.GetClientId() != "portfolio" || r.GetClientSecret() != "of-a-test" {
		return nil, status.Error(codes.Unauthenticated, "client_id or client_secret is wrong")
	}
	return &authv1.IssueServiceAccountTokenResponse{AccessToken: a.token,
		AccessExpireTime: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

// serveAuth runs auth until the test ends, and returns its address and the token of the account.
func serveAuth(t *testing.T, i *servicetest.Issuer) (addr, token string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &fakeAuth{token: i.Token(t, uuid.New())}
	s := grpc.NewServer()
	authv1.RegisterSessionServiceServer(s, a)
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String(), a.token
}
