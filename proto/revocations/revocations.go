// Package revocations carries the news of TokenService.WatchRevocations to a
// verifier of access tokens: it turns each message into the plain form that
// package authn of the library takes. A service that verifies tokens follows
// with one line:
//
//	revoked.Follow(ctx, revocations.Watch(conn))
//
// Limits: it follows one stream; taking it up again is up to who calls.
package revocations

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// Revoked is one thing whose tokens are refused. It and News are aliases of
// unnamed structs so that they are the same types as the library's own, which
// this module may not import.
type Revoked = struct {
	// Kind is KEY, SESSION or USER; Subject the kid or id.
	Kind, Subject      string
	IssuedUntil, Until time.Time
}

// News is one message.
type News = struct {
	Epoch   int64
	Revoked []Revoked
	Current bool
}

// Watch returns what reads one stream over conn and hands every message to
// take, until ctx or the stream ends or take fails; it returns why.
func Watch(conn grpc.ClientConnInterface) func(ctx context.Context, take func(News) error) error {
	client := authv1.NewTokenServiceClient(conn)
	return func(ctx context.Context, take func(News) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // which ends the stream, also when take fails
		stream, err := client.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{})
		if err != nil {
			return fmt.Errorf("watch revocations: %w", err)
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("watch revocations: %w", err)
			}
			if err := take(news(m)); err != nil {
				return err
			}
		}
	}
}

func news(m *authv1.WatchRevocationsResponse) News {
	n := News{Epoch: m.GetEpoch(), Current: m.GetCurrent(), Revoked: make([]Revoked, 0, len(m.GetRevocations()))}
	for _, r := range m.GetRevocations() {
		one := Revoked{IssuedUntil: at(r.GetIssuedUntil()), Until: at(r.GetExpireTime())}
		switch of := r.GetOf().(type) {
		case *authv1.Revocation_KeyId:
			one.Kind, one.Subject = "KEY", of.KeyId
		case *authv1.Revocation_SessionId:
			one.Kind, one.Subject = "SESSION", of.SessionId
		case *authv1.Revocation_UserId:
			one.Kind, one.Subject = "USER", of.UserId
		default: // of a later contract
			continue
		}
		n.Revoked = append(n.Revoked, one)
	}
	return n
}

// at is the zero time for none.
func at(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
