// Package revocations reads the stream of TokenService.WatchRevocations for
// package authn of the library: it converts each message into the plain structs
// that authn.Revocations takes. A service that verifies tokens follows the
// revocations with one line:
//
//	revoked.Follow(ctx, revocations.Watch(conn))
//
// Limits: Watch reads one stream and returns when it ends; Follow opens the next
// one.
package revocations

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// Revoked is a key, session or user whose tokens are refused: authn.Revoked of
// the library, which this module may not import. An alias of an unnamed struct
// is the same type as that one; so is Update.
type Revoked = struct {
	// Kind is KEY, SESSION or USER; Subject is the kid or the id.
	Kind, Subject      string
	IssuedUntil, Until time.Time
}

// Update is one message of the stream: authn.RevocationUpdate of the library.
type Update = struct {
	Epoch    int64
	Revoked  []Revoked
	CaughtUp bool
}

// Watch returns a function that opens one stream over conn and passes every
// message to take, until ctx or the stream ends or take fails. It returns the
// error that ended it, never nil.
func Watch(conn grpc.ClientConnInterface) func(ctx context.Context, take func(Update) error) error {
	client := authv1.NewTokenServiceClient(conn)
	return func(ctx context.Context, take func(Update) error) error {
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
			if err := take(update(m)); err != nil {
				return err
			}
		}
	}
}

func update(m *authv1.WatchRevocationsResponse) Update {
	n := Update{Epoch: m.GetEpoch(), CaughtUp: m.GetCaughtUp(), Revoked: make([]Revoked, 0, len(m.GetRevocations()))}
	for _, r := range m.GetRevocations() {
		one := Revoked{IssuedUntil: at(r.GetMaxIssueTime()), Until: at(r.GetExpireTime())}
		switch of := r.GetSubject().(type) {
		case *authv1.Revocation_KeyId:
			one.Kind, one.Subject = "KEY", of.KeyId
		case *authv1.Revocation_SessionId:
			one.Kind, one.Subject = "SESSION", of.SessionId
		case *authv1.Revocation_UserId:
			one.Kind, one.Subject = "USER", of.UserId
		default: // of a newer contract
			continue
		}
		n.Revoked = append(n.Revoked, one)
	}
	return n
}

// at returns the time of t, the zero time for nil.
func at(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
