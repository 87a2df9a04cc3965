package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/migrations"
)

// naive is what the feed would be without its numbers: whatever has a greater id than the last one that was read.
func naive(t *testing.T, s *Audit, after uuid.UUID) (ids []uuid.UUID) {
	t.Helper()
	err := s.db.Gorm(t.Context()).Raw("SELECT id FROM audit_events WHERE id > ? ORDER BY id", after).Scan(&ids).Error
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// read is everything after a position.
func read(t *testing.T, s *Audit, p audit.Position) ([]audit.RecordedEvent, audit.Position) {
	t.Helper()
	var all []audit.RecordedEvent
	for more := true; more; {
		b, err := s.After(context.WithoutCancel(t.Context()), p, audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		all, p, more = append(all, b.Events...), b.Last, b.More
	}
	return all, p
}

// An event that is recorded first is committed last: the feed has it, and who goes by ids alone misses it.
func TestAnEventThatIsCommittedLateIsNotMissed(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	s := NewAudit(db.DB)
	recorded, commit := make(chan struct{}), make(chan struct{})
	var late sync.WaitGroup
	late.Go(func() {
		err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
			err := record(tx, audit.Event{Type: audit.Login, Object: "late"})
			close(recorded)
			<-commit
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-recorded
	if err := s.Record(t.Context(), audit.Event{Type: audit.Login, Object: "early"}); err != nil {
		t.Fatal(err)
	}
	first, p := read(t, s, audit.Position{})
	byID := naive(t, s, uuid.Nil)
	if len(first) != 1 || first[0].Object != "early" || len(byID) != 1 {
		t.Fatalf("%v, %v", first, byID)
	}
	close(commit)
	late.Wait()
	if missed := naive(t, s, byID[0]); len(missed) != 0 {
		t.Errorf("the control has found %v", missed)
	}
	second, _ := read(t, s, p)
	if len(second) != 1 || second[0].Object != "late" {
		t.Errorf("%v", second)
	}
	again, err := s.Position(t.Context(), first[0].ID)
	if err != nil || again != p {
		t.Error(again, p, err)
	}
}

// Twenty writers commit in any order, a sealer seals, and readers on two replicas reconnect at random.
func TestTheFeedHasEveryEventOnceInOneOrder(t *testing.T) {
	const writers, each = 20, 15
	db := testkit.Postgres(t, migrations.FS)
	s := NewAudit(db.DB)
	chain := audit.NewChain(s, slog.New(slog.DiscardHandler), time.Now)
	var writing, others sync.WaitGroup
	var done atomic.Bool
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
					e := audit.Event{Type: audit.Login, Object: fmt.Sprintf("%d/%d", w, i)}
					if err := record(tx, e); err != nil {
						return err
					}
					return tx.Exec("SELECT pg_sleep(random() * 0.03)").Error // how long the rest of the change takes
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	var lost int
	others.Go(func() { // the control
		last, found := uuid.Nil, 0
		for end := false; !end; {
			end = done.Load()
			for _, id := range naive(t, s, last) {
				last, found = id, found+1
			}
		}
		lost = writers*each - found
	})
	others.Go(func() {
		for !done.Load() {
			if err := chain.Seal(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	seen := make([][]string, 2)
	for r := range seen {
		others.Go(func() {
			replica, p := NewAudit(db.DB), audit.Position{}
			for end := false; !end; {
				end = done.Load()
				b, err := replica.After(t.Context(), p, audit.Filter{})
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range b.Events {
					seen[r] = append(seen[r], e.Object)
				}
				p = b.Last
				if rand.IntN(3) == 0 && p.Event != uuid.Nil { // all that a client keeps is the id
					if p, err = replica.Position(t.Context(), p.Event); err != nil {
						t.Error(err)
						return
					}
				}
				end = end && !b.More
			}
		})
	}
	writing.Wait()
	done.Store(true)
	others.Wait()
	if len(seen[0]) != writers*each || !slices.Equal(seen[0], seen[1]) {
		t.Errorf("%d and %d of %d events, the same: %v", len(seen[0]), len(seen[1]), writers*each,
			slices.Equal(seen[0], seen[1]))
	}
	slices.Sort(seen[0])
	if len(slices.Compact(seen[0])) != writers*each {
		t.Error("an event came twice")
	}
	t.Logf("figure: %d events by %d writers, 0 lost; a cursor of ids lost %d", writers*each, writers, lost)
	if report, err := chain.Verify(t.Context(), nil); err != nil {
		t.Error(report, err)
	}
}

func TestAFilteredFeedGoesOnAndItsNumbersNeverChange(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	s := NewAudit(db.DB)
	ada := uuid.New()
	for i := range 2 * audit.MaxEventsPerBatch {
		e := audit.Event{Type: audit.Login, Object: fmt.Sprint(i)}
		if i%2 == 0 {
			e.Subject = ada
		}
		if err := s.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	one, err := s.After(t.Context(), audit.Position{}, audit.Filter{Subject: ada})
	if err != nil || len(one.Events) != audit.MaxEventsPerBatch || !one.More {
		t.Fatal(len(one.Events), one.More, err)
	}
	two, err := s.After(t.Context(), one.Last, audit.Filter{Subject: ada})
	if err != nil || len(two.Events) != 0 || two.More || two.Last.Number != 2*audit.MaxEventsPerBatch {
		t.Error(len(two.Events), two, err)
	}
	none, err := s.After(t.Context(), audit.Position{}, audit.Filter{Type: "\x00"})
	if err != nil || len(none.Events) != 0 || none.Last != two.Last {
		t.Error(none, err)
	}
	for _, statement := range []string{"UPDATE audit_events SET feed_number = feed_number + 1000000",
		"UPDATE audit_events SET feed_number = NULL", "UPDATE audit_events SET object = 'x'"} {
		if err := db.Gorm(t.Context()).Exec(statement).Error; err == nil {
			t.Errorf("%s is possible", statement)
		}
	}
	if _, err := s.Position(t.Context(), uuid.New()); err == nil {
		t.Error("an id that no event has was found")
	}
}
