package rpc

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// maxStreams bounds the streams of one replica.
const maxStreams = 10_000

// WatchRevocations implements the RPC.
func (s *TokenServer) WatchRevocations(_ *authv1.WatchRevocationsRequest,
	stream grpc.ServerStreamingServer[authv1.WatchRevocationsResponse]) error {
	ctx := stream.Context()
	end, err := s.streams.begin(grpcserver.PeerAddress(ctx))
	if err != nil {
		return err
	}
	defer end()
	for reader := s.feed.Reader(); ; {
		news, readAt, err := reader.Next(ctx)
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

// streams counts the open streams.
type streams struct {
	maxPerAddress int

	mu        sync.Mutex
	total     int
	byAddress map[string]int
}

func newStreams(maxPerAddress int) *streams {
	return &streams{maxPerAddress: maxPerAddress, byAddress: map[string]int{}}
}

// begin counts one more stream of an address until end is called. errs.Exhausted (TOO_MANY_STREAMS).
func (s *streams) begin(address string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byAddress[address] >= s.maxPerAddress || s.total >= maxStreams {
		return nil, errs.Exhausted("TOO_MANY_STREAMS", "too many streams; end one first")
	}
	s.byAddress[address]++
	s.total++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		if s.byAddress[address]--; s.byAddress[address] == 0 {
			delete(s.byAddress, address)
		}
	}, nil
}
