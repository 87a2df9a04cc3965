package app_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// watch opens a stream that ends with the test, or by the function that it returns.
func (s service) watch(ctx context.Context, t *testing.T, r *walletv1.WatchChangesRequest) (
	walletv1.HoldingsService_WatchChangesClient, context.CancelFunc) {
	t.Helper()
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(stop)
	stream, err := s.holdings.WatchChanges(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return stream, stop
}

// kinds are the next n changes of a stream, as "kind of wallet", and the cursor after them.
func kinds(t *testing.T, stream walletv1.HoldingsService_WatchChangesClient, n int) (out []string, cursor string) {
	t.Helper()
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v after %q", err, out)
		}
		for _, c := range m.GetChanges() {
			out = append(out, strings.TrimPrefix(c.GetKind().String(), "CHANGE_KIND_")+" of "+c.GetWalletId())
		}
		if cursor = m.GetCursor(); len(out) >= n {
			return out, cursor
		}
	}
}

func TestAWatcherHasTheirOwnChangesAndGoesOnAfterACursor(t *testing.T) {
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	url := testkit.Redis(t).URL()
	a := replica(t, db, issuer, url, tokenList, io.Discard)
	b := replica(t, db, issuer, url, tokenList, io.Discard)
	ada, eve := a.user(t), a.user(t)
	service := a.may(t, "wallet:read", "wallet:any")
	stream, stop := b.watch(ada, t, &walletv1.WatchChangesRequest{})
	_, start := kinds(t, stream, 0)
	all, _ := b.watch(service, t, &walletv1.WatchChangesRequest{Shard: &walletv1.Shard{Count: 1}})
	kinds(t, all, 0)

	theirs := a.create(eve, t, account)
	mine := a.create(ada, t, account)
	renamed, err := a.wallets.UpdateWallet(ada, &walletv1.UpdateWalletRequest{WalletId: mine.GetId(), Label: "warm"})
	if err != nil {
		t.Fatal(err)
	}
	got, cursor := kinds(t, stream, 2)
	if want := []string{"WALLET_CREATED of " + mine.GetId(), "WALLET_UPDATED of " + mine.GetId()}; !slices.Equal(got,
		want) {
		t.Errorf("%q, want %q", got, want)
	}
	stop()
	if _, err := a.wallets.DeleteWallet(ada, &walletv1.DeleteWalletRequest{WalletId: mine.GetId(),
		Etag: renamed.GetWallet().GetEtag()}); err != nil {
		t.Fatal(err)
	}
	again, _ := a.watch(ada, t, &walletv1.WatchChangesRequest{Cursor: cursor}) // at the other replica
	if got, _ := kinds(t, again, 1); !slices.Equal(got, []string{"WALLET_DELETED of " + mine.GetId()}) {
		t.Errorf("%q", got)
	}
	// A cursor carries no permission: with Ada's, Eve has her own changes.
	hers, _ := a.watch(eve, t, &walletv1.WatchChangesRequest{Cursor: start})
	if got, _ := kinds(t, hers, 1); !slices.Equal(got, []string{"WALLET_CREATED of " + theirs.GetId()}) {
		t.Errorf("%q", got)
	}
	if got, _ := kinds(t, all, 4); len(got) != 4 || got[0] != "WALLET_CREATED of "+theirs.GetId() {
		t.Errorf("a service account has %q", got)
	}
	one, _ := a.watch(service, t, &walletv1.WatchChangesRequest{Cursor: start, OwnerId: servicetest.UserID(ada, t)})
	if got, _ := kinds(t, one, 3); len(got) != 3 {
		t.Errorf("a service account has %q of one owner", got)
	}
}

func TestWhatCannotBeWatched(t *testing.T) {
	s := start(t)
	ada, eve, service := s.user(t), s.user(t), s.may(t, "wallet:read", "wallet:any")
	fail := func(ctx context.Context, r *walletv1.WatchChangesRequest) error {
		stream, _ := s.watch(ctx, t, r)
		_, err := stream.Recv()
		return err
	}
	stream, _ := s.watch(ada, t, &walletv1.WatchChangesRequest{})
	_, cursor := kinds(t, stream, 0)
	owner := servicetest.UserID(ada, t)
	servicetest.WantError(t, fail(eve, &walletv1.WatchChangesRequest{OwnerId: owner}), errs.KindPermissionDenied,
		"PERMISSION_MISSING")
	servicetest.WantError(t, fail(eve, &walletv1.WatchChangesRequest{Shard: &walletv1.Shard{Count: 1}}),
		errs.KindPermissionDenied, "PERMISSION_MISSING")
	for field, r := range map[string]*walletv1.WatchChangesRequest{
		"owner_id":     {OwnerId: owner, Shard: &walletv1.Shard{Count: 1}},
		"shard.count":  {Shard: &walletv1.Shard{}},
		"shard.number": {Shard: &walletv1.Shard{Number: 4, Count: 4}},
		"cursor":       {Cursor: "yesterday"},
	} {
		servicetest.WantViolation(t, fail(service, r), field)
	}
	servicetest.WantError(t, fail(ada, &walletv1.WatchChangesRequest{Cursor: "00000000-0"}),
		errs.KindFailedPrecondition, "CURSOR_EXPIRED")
	s.create(ada, t, account)
	s.exec(t, "UPDATE changes SET created_at = now() - interval '8 days'")
	kinds(t, stream, 1)
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "trim_changes"}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		var left int
		return s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM changes").Scan(&left) == nil && left == 0
	})
	servicetest.WantError(t, fail(ada, &walletv1.WatchChangesRequest{Cursor: cursor}), errs.KindFailedPrecondition,
		"CURSOR_EXPIRED")
}

// One caller can't take all streams, and those that end are free again.
func TestACallerHasAFewStreamsOfChanges(t *testing.T) {
	s := start(t)
	ada, eve := s.user(t), s.user(t)
	stops := make([]context.CancelFunc, 16)
	for i := range stops {
		stream, stop := s.watch(ada, t, &walletv1.WatchChangesRequest{})
		kinds(t, stream, 0)
		stops[i] = stop
	}
	more, _ := s.watch(ada, t, &walletv1.WatchChangesRequest{})
	_, err := more.Recv()
	servicetest.WantError(t, err, errs.KindExhausted, "TOO_MANY_STREAMS")
	other, _ := s.watch(eve, t, &walletv1.WatchChangesRequest{})
	kinds(t, other, 0)
	stops[3]()
	testkit.Eventually(t, time.Minute, func() bool {
		again, _ := s.watch(ada, t, &walletv1.WatchChangesRequest{})
		_, err := again.Recv()
		return err == nil
	})
}

// A stream without a change still moves on, past the changes of others.
func TestAHeartbeatMovesTheCursorOn(t *testing.T) {
	s := start(t)
	ada, eve := s.user(t), s.user(t)
	stream, _ := s.watch(ada, t, &walletv1.WatchChangesRequest{})
	_, first := kinds(t, stream, 0)
	s.create(eve, t, account)
	for {
		m, err := stream.Recv()
		if err != nil || len(m.GetChanges()) > 0 {
			t.Fatal(m, err)
		}
		if m.GetCursor() != first {
			return
		}
	}
}
