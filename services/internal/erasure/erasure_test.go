package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/internal/erasure"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const issuer = "https://auth.example.com"

// auth stands in for the service of that name: a list of deletions that a test can falsify.
type auth struct {
	authv1.DeletionServiceClient
	mu       sync.Mutex
	issuer   string
	list     []*authv1.DeletedUser
	find     func(ids []string) []*authv1.DeletedUser // in place of the list
	err      error
	reported int64
	forgets  bool // no cursor but 0 is known to it
	listed   int
}

// remove deletes a user.
func (a *auth) remove(user uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, &authv1.DeletedUser{UserId: user.String(), Cursor: int64(len(a.list) + 1)})
}

func (a *auth) ListDeletions(_ context.Context, in *authv1.ListDeletionsRequest,
	_ ...grpc.CallOption) (*authv1.ListDeletionsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	a.listed++
	if in.GetAfterCursor() > int64(len(a.list)) || a.forgets && in.GetAfterCursor() > 0 {
		return nil, errs.FailedPrecondition("CURSOR_AHEAD", "")
	}
	rest := a.list[in.GetAfterCursor():]
	rest = rest[:min(len(rest), int(in.GetPageSize()))]
	next := in.GetAfterCursor()
	if len(rest) > 0 {
		next = rest[len(rest)-1].GetCursor()
	}
	return &authv1.ListDeletionsResponse{Deletions: rest, NextCursor: next, Issuer: a.issuer}, nil
}

func (a *auth) FindDeletedUsers(_ context.Context, in *authv1.FindDeletedUsersRequest,
	_ ...grpc.CallOption) (*authv1.FindDeletedUsersResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resp := &authv1.FindDeletedUsersResponse{Issuer: a.issuer}
	if a.find != nil {
		resp.Deletions = a.find(in.GetUserIds())
	} else {
		for _, d := range a.list {
			if slices.Contains(in.GetUserIds(), d.GetUserId()) {
				resp.Deletions = append(resp.Deletions, d)
			}
		}
	}
	return resp, a.err
}

func (a *auth) ReportErasure(_ context.Context, in *authv1.ReportErasureRequest,
	_ ...grpc.CallOption) (*authv1.ReportErasureResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reported = in.GetCursor()
	return &authv1.ReportErasureResponse{}, a.err
}

// things is a service's data: a table with an owner. One owner can be made to fail.
type things struct {
	db      *postgres.DB
	failing uuid.UUID
}

func (s *things) add(ctx context.Context, owner uuid.UUID, guard bool, meanwhile func()) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if guard {
			if err := erasure.Guard(tx, owner); err != nil {
				return err
			}
		}
		err := tx.Exec("INSERT INTO things VALUES (?, ?)", owner, uuid.New()).Error
		meanwhile()
		return err
	})
}

func (s *things) Owners(ctx context.Context, after uuid.UUID, limit int) (ids []uuid.UUID, err error) {
	err = s.db.Gorm(ctx).Raw("SELECT DISTINCT owner_id FROM things WHERE owner_id > ? ORDER BY 1 LIMIT ?", after,
		limit).Scan(&ids).Error
	return ids, err
}

var errBroken = errors.New("broken")

func (s *things) EraseSome(tx *gorm.DB, owner uuid.UUID) ([]cache.Invalidation, bool, error) {
	if owner == s.failing {
		return nil, false, errBroken
	}
	done := tx.Exec(`DELETE FROM things WHERE id IN (SELECT id FROM things WHERE owner_id = ? LIMIT 2)`, owner)
	return nil, done.RowsAffected == 2, done.Error
}

type fixture struct {
	*erasure.Follower
	auth   *auth
	things *things
}

func start(t *testing.T) fixture {
	t.Helper()
	db := testkit.Postgres(t, fstest.MapFS{"00001_test.sql": {Data: []byte("-- +goose Up\n" + erasure.Schema +
		cache.Schema + "\nCREATE TABLE things (owner_id uuid NOT NULL, id uuid PRIMARY KEY);\n")}})
	f := fixture{auth: &auth{issuer: issuer}, things: &things{db: db.DB}}
	f.Follower = erasure.NewFollower(erasure.Options{DB: db.DB, Auth: f.auth, Issuer: issuer, Data: f.things,
		AsSelf: func(ctx context.Context) (context.Context, error) { return ctx, nil },
		Log:    slog.New(slog.DiscardHandler)})
	return f
}

// owner makes somebody with n things.
func (f fixture) owner(t *testing.T, n int) uuid.UUID {
	t.Helper()
	id := uuid.New()
	for range n {
		if err := f.things.add(t.Context(), id, true, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func (f fixture) has(t *testing.T, owner uuid.UUID) (n int) {
	t.Helper()
	err := f.things.db.Gorm(t.Context()).Raw("SELECT count(*) FROM things WHERE owner_id = ?", owner).Scan(&n).Error
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryListedUserIsErasedAndReported(t *testing.T) {
	f := start(t)
	stays := f.owner(t, 3)
	var gone []uuid.UUID
	for i := range 250 { // more than one page, and some without anything
		id := f.owner(t, i%4)
		gone = append(gone, id)
		f.auth.remove(id)
	}
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range gone {
		if n := f.has(t, id); n > 0 {
			t.Errorf("%d things are left", n)
		}
		if err := f.things.add(t.Context(), id, true, func() {}); !errs.Is(err, errs.KindUnauthenticated) {
			t.Errorf("something new is answered %v", err)
		}
	}
	if f.has(t, stays) != 3 || f.auth.reported != 250 {
		t.Errorf("somebody else has %d things, and the cursor %d is reported", f.has(t, stays), f.auth.reported)
	}
}

func TestAUserWhoCannotBeErasedIsTriedAgainAndKeepsNobodyElse(t *testing.T) {
	f := start(t)
	var gone []uuid.UUID
	for range 3 {
		gone = append(gone, f.owner(t, 3))
		f.auth.remove(gone[len(gone)-1])
	}
	f.things.failing = gone[1]
	if err := f.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if f.has(t, gone[0])+f.has(t, gone[2]) > 0 || f.auth.reported != 1 {
		t.Errorf("%d and %d things are left, and %d is reported", f.has(t, gone[0]), f.has(t, gone[2]),
			f.auth.reported)
	}
	f.things.failing = uuid.Nil
	f.auth.err = errs.Unavailable("DOWN", "") // what is noted is erased without auth
	if err := f.Run(t.Context()); !errs.Is(err, errs.KindUnavailable) || f.has(t, gone[1]) > 0 {
		t.Errorf("%v, and %d things are left", err, f.has(t, gone[1]))
	}
	f.auth.err = nil
	if err := f.Run(t.Context()); err != nil || f.auth.reported != 3 {
		t.Errorf("%v, and %d is reported", err, f.auth.reported)
	}
}

// Nothing is erased because of what auth does not say.
func TestNothingIsErasedOfWhomAuthHasNotNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		falsify func(a *auth, victim uuid.UUID)
		fails   bool
	}{
		"auth is unavailable": {func(a *auth, _ uuid.UUID) { a.err = errs.Unavailable("DOWN", "") }, true},
		"auth lost its database": {func(a *auth, _ uuid.UUID) {
			a.list = nil
		}, false},
		"auth answers for another issuer": {func(a *auth, victim uuid.UUID) {
			a.issuer = "https://staging.example.com"
			a.list = append(a.list, &authv1.DeletedUser{UserId: victim.String(), Cursor: 2})
		}, true},
		"auth answers for no issuer": {func(a *auth, victim uuid.UUID) {
			a.issuer = ""
			a.list = append(a.list, &authv1.DeletedUser{UserId: victim.String(), Cursor: 2})
		}, true},
		"auth names somebody without a cursor": {func(a *auth, victim uuid.UUID) {
			a.list = append(a.list, &authv1.DeletedUser{UserId: victim.String()})
			a.find = func([]string) []*authv1.DeletedUser { return a.list[1:] }
		}, true},
		"auth names somebody whom it was not asked about": {func(a *auth, _ uuid.UUID) {
			a.find = func([]string) []*authv1.DeletedUser {
				return []*authv1.DeletedUser{{UserId: uuid.NewString(), Cursor: 2}}
			}
		}, true},
		"auth names no id": {func(a *auth, _ uuid.UUID) {
			a.find = func([]string) []*authv1.DeletedUser { return []*authv1.DeletedUser{{UserId: "*", Cursor: 2}} }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.auth.remove(f.owner(t, 1))
			if err := f.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			victim := f.owner(t, 3)
			tc.falsify(f.auth, victim)
			_ = f.Run(t.Context())
			if err := f.Sweep(t.Context()); (err != nil) != tc.fails {
				t.Errorf("the sweep returned %v", err)
			}
			if f.has(t, victim) != 3 {
				t.Errorf("%d of 3 things are left", f.has(t, victim))
			}
		})
	}
}

// Auth was restored from a backup, and has deleted others since.
func TestTheListIsReadFromTheStartWhereAuthHasNotReachedTheCursor(t *testing.T) {
	f := start(t)
	for range 3 {
		f.auth.remove(uuid.New())
	}
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := f.owner(t, 3)
	f.auth.list = nil
	f.auth.remove(gone)
	if err := f.Run(t.Context()); err != nil || f.has(t, gone) > 0 || f.auth.reported != 1 {
		t.Errorf("%v, %d things are left, and %d is reported", err, f.has(t, gone), f.auth.reported)
	}
}

// Such as by a load balancer in front of two deployments, or a replica of the database that is behind.
func TestAnAuthThatRefusesItsOwnCursorsIsNotAskedWithoutEnd(t *testing.T) {
	f := start(t)
	gone := f.owner(t, 3)
	f.auth.remove(gone)
	f.auth.forgets = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if e := errs.As(f.Run(ctx)); e == nil || e.Reason != "CURSOR_AHEAD" {
		t.Errorf("the run returned %v", e)
	}
	if f.auth.listed > 4 || f.has(t, gone) > 0 {
		t.Errorf("auth was asked %d times, and %d things are left", f.auth.listed, f.has(t, gone))
	}
}

func TestTheSweepErasesAgainWhatCameBack(t *testing.T) {
	f := start(t)
	gone, stays := f.owner(t, 3), f.owner(t, 3)
	f.auth.remove(gone)
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.things.add(t.Context(), gone, false, func() {}); err != nil { // as from a backup
		t.Fatal(err)
	}
	if err := f.Sweep(t.Context()); err != nil || f.has(t, gone) > 0 || f.has(t, stays) != 3 {
		t.Errorf("%v, %d things are left, and %d of somebody else", err, f.has(t, gone), f.has(t, stays))
	}
}

// race deletes a user between what a transaction writes and its commit, and returns how much is left of them.
func race(t *testing.T, guard bool) int {
	t.Helper()
	f := start(t)
	gone := uuid.New()
	f.auth.remove(gone)
	ran := make(chan error, 1)
	err := f.things.add(t.Context(), gone, guard, func() {
		go func() { ran <- f.Run(t.Context()) }()
		testkit.Eventually(t, time.Minute, func() bool { // it waits for the transaction, or is done
			var waiting int
			err := f.things.db.Gorm(t.Context()).
				Raw("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&waiting).Error
			return err != nil || waiting > 0 || len(ran) == 1
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	return f.has(t, gone)
}

func TestWhatIsStoredWhileItsOwnerIsDeletedIsErasedToo(t *testing.T) {
	if n := race(t, true); n > 0 {
		t.Errorf("%d things are left", n)
	}
}

// The control of the test above.
func TestWithoutTheGuardSomethingIsLeftOfADeletedOwner(t *testing.T) {
	if race(t, false) == 0 {
		t.Error("nothing is left: the test proves nothing")
	}
}

// Replicas run at once, while owners are given things until they are refused.
func TestReplicasEraseTogetherWhileOwnersAreBusy(t *testing.T) {
	f := start(t)
	var gone []uuid.UUID
	for range 20 {
		gone = append(gone, f.owner(t, 5))
	}
	var busy, replicas sync.WaitGroup
	for _, id := range gone {
		busy.Go(func() {
			for {
				err := f.things.add(t.Context(), id, true, func() {})
				if errs.Is(err, errs.KindUnauthenticated) {
					return
				}
				if err != nil && !errs.Is(postgres.Translate(err), errs.KindUnavailable) {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, id := range gone {
		f.auth.remove(id)
		for range 2 {
			replicas.Go(func() {
				if err := f.Run(t.Context()); err != nil {
					t.Log(fmt.Errorf("a run: %w", err)) // such as a lock that took too long
				}
			})
		}
	}
	replicas.Wait()
	busy.Wait()
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range gone {
		if n := f.has(t, id); n > 0 {
			t.Errorf("%d things are left", n)
		}
	}
	if f.auth.reported != int64(len(gone)) {
		t.Errorf("%d of %d are reported", f.auth.reported, len(gone))
	}
}
