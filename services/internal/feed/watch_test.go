package feed

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// The tail in memory is bounded, and a stream whose reader takes nothing keeps nothing: it has the rest from the
// database.
func TestASlowReaderHasEverythingAndKeepsNothingInMemory(t *testing.T) {
	const n = 3*maxTail + 7
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	owner := uuid.New()
	if err := count(t.Context(), db.DB, owner, nothing); err != nil {
		t.Fatal(err)
	}
	got, blocked := []int64(nil), true
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := f.Watch(ctx, start, Filter{Owner: owner}, func(c []Change, _ string) error {
		if blocked { // meanwhile everything else happens
			blocked = false
			err := db.Gorm(ctx).Exec(`INSERT INTO changes (owner_id, kind, subject_id, version)
				SELECT ?, 'COUNTED', ?, i FROM generate_series(2, ?::bigint) AS i ORDER BY i`, owner, owner, n).Error
			if err != nil {
				return err
			}
			testkit.Eventually(t, timeout, func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				if len(f.tail) > 2*maxTail+maxBatch {
					t.Fatalf("%d changes are in memory", len(f.tail))
				}
				return f.last >= n
			})
		}
		if got = append(got, versions(c)...); len(got) >= n {
			return errEnough
		}
		return nil
	})
	if err != errEnough || len(got) != n { //nolint:errorlint // as it is
		t.Fatal(len(got), err)
	}
	for i, v := range got {
		if v != int64(i+1) {
			t.Fatalf("change %d is %d", i, v)
		}
	}
}

func TestWhatACursorCanBe(t *testing.T) {
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	owner := uuid.New()
	for range 5 {
		if err := count(t.Context(), db.DB, owner, nothing); err != nil {
			t.Fatal(err)
		}
	}
	all, end := take(t, f, start, Filter{}, 5)
	id := start[:8]
	watch := func(cursor string) error {
		return f.Watch(t.Context(), cursor, Filter{}, func([]Change, string) error { return errEnough })
	}
	for _, bad := range []string{"x", "-", id, id + "-", id + "--1", id + "-1 ", id + "-01",
		id + "-9223372036854775808", "é-1", id + "-1-1"} {
		if err := watch(bad); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	wantExpired := func(cursor string) {
		t.Helper()
		if err := watch(cursor); errs.As(err) == nil || errs.As(err).Reason != "CURSOR_EXPIRED" {
			t.Errorf("%q: %v", cursor, err)
		}
	}
	wantExpired("00000000-1")
	wantExpired(fmt.Sprintf("%s-%d", id, all[4].Number+1)) // which this database did not give

	// The first two are old, and so is the last, which was committed late: it stays for those before it.
	err := db.Gorm(t.Context()).Exec(`UPDATE changes SET created_at = now() - interval '2 hours'
		WHERE version IN (1, 2, 5)`).Error
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Trim(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	wantExpired(start)
	wantExpired(cursor{id, all[0].Number}.String())
	fresh := New(db.DB, nil, "test", slog.New(slog.DiscardHandler)) // reads from the database
	if err := fresh.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Feed{f, fresh} {
		if got, _ := take(t, f, cursor{id, all[1].Number}.String(), Filter{}, 3); !slices.Equal(versions(got),
			[]int64{3, 4, 5}) {
			t.Error(got)
		}
	}
	if err := f.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wantExpired(cursor{id, all[3].Number}.String())
	if err := count(t.Context(), db.DB, owner, nothing); err != nil {
		t.Fatal(err)
	}
	if got, _ := take(t, f, end, Filter{}, 1); !slices.Equal(versions(got), []int64{6}) { // nothing was missed
		t.Error(got)
	}
}

// A stream that is behind when the next changes are trimmed is told, also if it was open before.
func TestAStreamWhoseNextChangesAreTrimmedIsTold(t *testing.T) {
	const n = 3 * maxTail
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	owner := uuid.New()
	if err := count(t.Context(), db.DB, owner, nothing); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	sent := 0
	err := f.Watch(ctx, start, Filter{}, func(c []Change, _ string) error {
		if sent += len(c); sent > 1 {
			return errEnough
		}
		err := db.Gorm(ctx).Exec(`INSERT INTO changes (owner_id, kind, subject_id, version)
			SELECT ?, 'COUNTED', ?, i FROM generate_series(2, ?::bigint) AS i`, owner, owner, n).Error
		if err != nil {
			return err
		}
		testkit.Eventually(t, timeout, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.last >= n
		})
		return f.Trim(ctx, 0)
	})
	if errs.As(err) == nil || errs.As(err).Reason != "CURSOR_EXPIRED" {
		t.Errorf("%d changes, %v", sent, err)
	}
}

func TestOfAnErasedOwnerOneChangeIsLeft(t *testing.T) {
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	owner, other := uuid.New(), uuid.New()
	for _, o := range []uuid.UUID{owner, owner, other, owner} {
		if err := count(t.Context(), db.DB, o, nothing); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to do
		for more := true; more; {
			err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) (err error) {
				more, err = Erase(tx, owner, "ERASED", 2)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	fresh := replica(t, db.DB, "")
	got, _ := take(t, fresh, start, Filter{}, 2)
	if len(got) != 2 || got[0].Owner != other || got[1].Owner != owner || got[1].Kind != "ERASED" ||
		got[1].Subject != uuid.Nil {
		t.Errorf("%+v", got)
	}
}
