package rpc

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/internal/streams"
)

// WatchRevocations implements the RPC.
func (s *TokenServer) WatchRevocations(_ *authv1.WatchRevocationsRequest,
	stream grpc.ServerStreamingServer[authv1.WatchRevocationsResponse]) error {
	ctx := stream.Context()
	ctx, end, err := s.streams.begin(ctx, serviceAccountOf(ctx, s.verifier), grpcserver.PeerAddress(ctx))
	if err != nil {
		return err
	}
	defer end()
	for reader := s.feed.Reader(); ; {
		news, readAt, err := reader.Next(ctx)
		if errors.Is(context.Cause(ctx), streams.ErrTaken) {
			return errs.Exhausted("TOO_MANY_STREAMS",
				"your address or network has the most streams, and another client needs one")
		}
		if err != nil {
			return err
		}
		m := &authv1.WatchRevocationsResponse{Epoch: news.Epoch, CaughtUp: news.CaughtUp,
			ReadTime: timestamppb.New(readAt)}
		for _, r := range news.Revoked {
			m.Revocations = append(m.Revocations, revocationToProto(r))
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// serviceAccountOf returns the id of the service account whose token a call of a
// public method carries; "" without a token, with an invalid one, and with one of a
// person, of whom there can be as many as somebody registers.
func serviceAccountOf(ctx context.Context, v Verifier) string {
	caller, ok := bearer(ctx, v)
	if !ok || !slices.Contains(caller.Methods, serviceaccount.Method) {
		return ""
	}
	return caller.UserID.String()
}

func revocationToProto(r authn.Revoked) *authv1.Revocation {
	p := &authv1.Revocation{ExpireTime: timestamppb.New(r.Until)}
	switch r.Kind {
	case authn.RevokedKey:
		p.Subject = &authv1.Revocation_KeyId{KeyId: r.Subject}
	case authn.RevokedSession:
		p.Subject = &authv1.Revocation_SessionId{SessionId: r.Subject}
	case authn.RevokedUser:
		p.Subject = &authv1.Revocation_UserId{UserId: r.Subject}
		p.MaxIssueTime = timestamppb.New(r.IssuedUntil)
	}
	return p
}
