package app_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/migrations"
)

// watch opens a stream and waits for its first message.
func (s service) watch(t *testing.T, as context.Context,
	r *authv1.WatchAuditEventsRequest) (grpc.ServerStreamingClient[authv1.WatchAuditEventsResponse],
	*authv1.WatchAuditEventsResponse) {
	t.Helper()
	stream, err := s.admin.WatchAuditEvents(as, r)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return stream, first
}

// ended drains a stream and returns how it ended.
func ended(stream grpc.ServerStreamingClient[authv1.WatchAuditEventsResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// until reads a stream until it has an event of this type about a subject.
func until(t *testing.T, stream grpc.ServerStreamingClient[authv1.WatchAuditEventsResponse],
	seen []*authv1.AuditEvent, kind, subject string) ([]*authv1.AuditEvent, string) {
	t.Helper()
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, m.GetEvents()...)
		if slices.ContainsFunc(m.GetEvents(), func(e *authv1.AuditEvent) bool {
			return e.GetType() == kind && e.GetSubjectId() == subject
		}) {
			return seen, m.GetLastEventId()
		}
	}
}

func TestAuditEventsAreStreamedAcrossReplicasAndReconnects(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	one := startOn(t, db, db.URL, "PURSER_ATTEMPTS_PER_ADDRESS=100000")
	other := startOn(t, db, db.URL, "PURSER_ATTEMPTS_PER_ADDRESS=100000")
	admin := one.asAdmin(t)
	replicas := []service{one, other}
	// connect continues on one of the replicas; the stream before ends.
	leave := func() {}
	connect := func(i int, cursor string) (grpc.ServerStreamingClient[authv1.WatchAuditEventsResponse],
		*authv1.WatchAuditEventsResponse) {
		leave()
		ctx, cancel := context.WithCancel(admin)
		t.Cleanup(cancel)
		leave = cancel
		return replicas[i%2].watch(t, ctx, &authv1.WatchAuditEventsRequest{AfterEventId: cursor})
	}
	stream, got := connect(0, "")
	if len(got.GetEvents()) == 0 || got.GetLastEventId() == "" {
		t.Fatal(got)
	}
	var cursor string
	seen := got.GetEvents()
	for i := range 6 {
		email := fmt.Sprintf("user-%d@example.com", i)
		replicas[i%2].register(t, email) // on the one or the other
		id := one.find(t, admin, email).GetUser().GetId()
		seen, cursor = until(t, stream, seen, "account.registered", id)
		if i%2 == 0 {
			leave()
			one.register(t, "missed-"+email) // while nobody reads
		}
		for turn := range 2 { // the second time with nothing new, or little
			stream, got = connect(i+turn, cursor)
			seen, cursor = append(seen, got.GetEvents()...), got.GetLastEventId()
			if cursor == "" {
				t.Fatal("a message has no cursor")
			}
		}
	}
	one.register(t, "last@example.com")
	seen, _ = until(t, stream, seen, "account.registered", one.find(t, admin, "last").GetUser().GetId())
	ids := map[string]bool{}
	for _, e := range seen {
		if ids[e.GetEventId()] {
			t.Errorf("%v came twice", e)
		}
		ids[e.GetEventId()] = true
	}
	if n := one.count(t, "audit_events"); len(ids) != n {
		t.Errorf("%d of %d events", len(ids), n)
	}
}

func TestAuditEventsAreStreamedByFilter(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	ada := s.find(t, admin, "ada").GetUser().GetId()
	_ = s.guess(t, "ada@example.com")
	s.login(t, "ada@example.com")
	newest, err := s.admin.ListAuditEvents(admin, &authv1.ListAuditEventsRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, got := s.watch(t, admin, &authv1.WatchAuditEventsRequest{SubjectId: ada, Type: "session.login",
		Outcome: authv1.AuditOutcome_AUDIT_OUTCOME_REFUSED})
	if len(got.GetEvents()) != 1 || got.GetEvents()[0].GetReason() != "INVALID_CREDENTIALS" ||
		got.GetEvents()[0].GetIpAddress() != "127.0.0.1" ||
		got.GetLastEventId() != newest.GetEvents()[0].GetEventId() {
		t.Error(got)
	}
	for field, bad := range map[string]*authv1.WatchAuditEventsRequest{
		"after_event_id": {AfterEventId: uuid.NewString()}, "subject_id": {SubjectId: "ada"},
	} {
		stream, err := s.admin.WatchAuditEvents(admin, bad)
		if err == nil {
			_, err = stream.Recv()
		}
		if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != field {
			t.Error(e.Violations)
		}
	}
}

// A stream goes on for no longer than about a second after its caller's right to it.
func TestAStreamOfAuditEventsEndsWithTheAuthority(t *testing.T) {
	s := start(t)
	root := s.asAdmin(t)
	n := 0
	for name, tc := range map[string]struct {
		end    func(as context.Context, id string) error
		reason []string
	}{
		"the role is taken": {func(_ context.Context, id string) error {
			_, err := s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: id, EndSessions: proto.Bool(false)})
			return err
		}, []string{"PERMISSION_MISSING"}},
		"the account is disabled": {func(_ context.Context, id string) error {
			_, err := s.admin.DisableUser(root, &authv1.DisableUserRequest{UserId: id})
			return err
		}, []string{"SESSION_REVOKED", "ACCOUNT_DISABLED"}},
		"the session ends": {func(as context.Context, _ string) error {
			_, err := s.sessions.Logout(as, &authv1.LogoutRequest{})
			return err
		}, []string{"SESSION_REVOKED"}},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			bob, id := s.second(t, fmt.Sprintf("bob-%d@example.com", n))
			stream, _ := s.watch(t, bob, &authv1.WatchAuditEventsRequest{})
			if err := tc.end(bob, id); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			err := ended(stream)
			if e := errs.As(err); e == nil || !slices.Contains(tc.reason, e.Reason) {
				t.Errorf("ended with %v", err)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it ended after %s", took)
			}
		})
	}
}

func TestAStreamOfAuditEventsEndsWithItsTokenAndIsOneOfFew(t *testing.T) {
	s := start(t, "PURSER_ACCESS_TTL=3s")
	admin := s.asAdmin(t)
	stream, _ := s.watch(t, admin, &authv1.WatchAuditEventsRequest{})
	want(t, ended(stream), errs.KindUnauthenticated, "TOKEN_EXPIRED")

	robot := s.serve(t, s.asAgain(t), "robot", "admin:system")
	ctx, cancel := context.WithCancel(robot)
	defer cancel()
	for range 4 {
		s.watch(t, ctx, &authv1.WatchAuditEventsRequest{})
	}
	fifth, err := s.admin.WatchAuditEvents(robot, &authv1.WatchAuditEventsRequest{})
	if err == nil {
		_, err = fifth.Recv()
	}
	want(t, err, errs.KindExhausted, "TOO_MANY_STREAMS")
	cancel() // which frees their places
	testkit.Eventually(t, time.Minute, func() bool {
		again, err := s.admin.WatchAuditEvents(robot, &authv1.WatchAuditEventsRequest{})
		if err == nil {
			_, err = again.Recv()
		}
		return err == nil
	})
	plain, err := s.admin.WatchAuditEvents(grpcclient.WithToken(t.Context(), s.plain(t)),
		&authv1.WatchAuditEventsRequest{})
	if err == nil {
		_, err = plain.Recv()
	}
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
}

// asAgain is the admin, with a new token.
func (s service) asAgain(t *testing.T) context.Context {
	t.Helper()
	return grpcclient.WithToken(t.Context(), s.login(t, "root@example.com").GetAccessToken())
}
