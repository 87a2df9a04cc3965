package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// deletions answers two users at a time.
type deletions struct {
	authv1.DeletionServiceClient
	issuer   string
	users    []string
	reported int64
}

func (d *deletions) ListDeletions(_ context.Context, in *authv1.ListDeletionsRequest,
	_ ...grpc.CallOption) (*authv1.ListDeletionsResponse, error) {
	resp := &authv1.ListDeletionsResponse{Issuer: d.issuer, NextCursor: in.GetAfterCursor()}
	for i := int(in.GetAfterCursor()); i < min(len(d.users), int(in.GetAfterCursor())+2); i++ {
		resp.NextCursor = int64(i + 1)
		resp.Deletions = append(resp.Deletions, &authv1.DeletedUser{UserId: d.users[i], Cursor: resp.NextCursor})
	}
	return resp, nil
}

func (d *deletions) ReportErasure(_ context.Context, in *authv1.ReportErasureRequest,
	_ ...grpc.CallOption) (*authv1.ReportErasureResponse, error) {
	d.reported = in.GetCursor()
	return &authv1.ReportErasureResponse{}, nil
}

func TestDeletionsAreFollowedFromTheStoredCursorAndReported(t *testing.T) {
	const issuer = "https://auth.example.com"
	d := &deletions{issuer: issuer, users: []string{"a", "b", "c", "d", "e"}}
	var erased []string
	stored := int64(0)
	broken := errors.New("broken")
	fails := true
	erase := func(_ context.Context, ids []string, next int64) error {
		if fails && slices.Contains(ids, "d") {
			return broken
		}
		erased, stored = append(erased, ids...), next
		return nil
	}
	cursor, err := client.FollowDeletions(t.Context(), d, issuer, stored, erase)
	if !errors.Is(err, broken) || cursor != 2 || stored != 2 || d.reported != 2 {
		t.Fatalf("%v at %d, %d is stored and %d reported", err, cursor, stored, d.reported)
	}
	fails, d.reported = false, 0
	cursor, err = client.FollowDeletions(t.Context(), d, issuer, stored, erase)
	if err != nil || cursor != 5 || d.reported != 5 || !slices.Equal(erased, d.users) {
		t.Errorf("%v at %d, erased %v and reported %d", err, cursor, erased, d.reported)
	}
	d.reported = 0
	if _, err := client.FollowDeletions(t.Context(), d, issuer, stored, erase); err != nil || d.reported != 5 {
		t.Errorf("%v, and %d is reported", err, d.reported)
	}
	d.issuer = "https://staging.example.com"
	if _, err := client.FollowDeletions(t.Context(), d, issuer, 0, erase); err == nil || len(erased) != 5 {
		t.Errorf("users of another issuer: %v, erased %v", err, erased)
	}
}
