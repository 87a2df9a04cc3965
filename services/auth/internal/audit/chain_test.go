package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type record struct {
	*audit.Chain
	db    *testkit.DB
	store *store.Audit
}

func newRecord(t *testing.T) record {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	s := store.NewAudit(db.DB)
	return record{audit.NewChain(s, slog.New(slog.DiscardHandler), time.Now), db, s}
}

// events records some, from one address.
func (r record) events(t *testing.T, n int) {
	t.Helper()
	ctx := audit.WithClient(t.Context(), audit.Client{IPAddress: "192.0.2.1", UserAgent: "grpcurl"})
	for i := range n {
		err := r.store.Record(ctx, audit.Event{Type: audit.Login, Reason: fmt.Sprint(i), Actor: uuid.New(),
			Subject: uuid.New(), Object: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sealed records and seals events in three batches.
func (r record) sealed(t *testing.T) {
	t.Helper()
	for range 3 {
		r.events(t, 4)
		if err := r.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// tamper does what only who owns the table can do.
func (r record) tamper(t *testing.T, statement string) {
	t.Helper()
	for _, s := range []string{"ALTER TABLE audit_events DISABLE TRIGGER USER", statement,
		"ALTER TABLE audit_events ENABLE TRIGGER USER"} {
		if err := r.db.Gorm(t.Context()).Exec(s).Error; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAChainThatNobodyTouchedIsWhole(t *testing.T) {
	r := newRecord(t)
	if report, err := r.Verify(t.Context(), nil); err != nil || report.Last.Number != 0 {
		t.Fatal(report, err)
	}
	r.sealed(t)
	if err := r.Seal(t.Context()); err != nil { // with nothing to seal
		t.Fatal(err)
	}
	r.events(t, 2)
	report, err := r.Verify(t.Context(), nil)
	if err != nil || report.Last.Number != 3 || report.Events != 12 || report.Unsealed != 2 ||
		time.Since(report.OldestUnsealed) > time.Minute {
		t.Errorf("found %+v, %v", report, err)
	}
}

func TestErasingWhereEventsCameFromLeavesTheChainWhole(t *testing.T) {
	r := newRecord(t)
	r.sealed(t)
	if err := r.db.Gorm(t.Context()).Exec("DELETE FROM audit_personal").Error; err != nil {
		t.Fatal(err)
	}
	if report, err := r.Verify(t.Context(), nil); err != nil || report.Events != 12 {
		t.Errorf("found %+v, %v", report, err)
	}
}

func TestWhateverIsChangedAfterwardsIsFound(t *testing.T) {
	const second = "(SELECT id FROM audit_events WHERE seal = 2 ORDER BY id LIMIT 1)"
	for name, tt := range map[string]struct {
		statement string
		seal      int64
	}{
		"the reason of an event": {"UPDATE audit_events SET reason = 'x' WHERE id = " + second, 2},
		"the outcome":            {"UPDATE audit_events SET outcome = 'REFUSED' WHERE id = " + second, 2},
		"the type":               {"UPDATE audit_events SET type = 'session.logout' WHERE id = " + second, 2},
		"who it was":             {"UPDATE audit_events SET actor = gen_random_uuid() WHERE id = " + second, 2},
		"whom it concerns":       {"UPDATE audit_events SET subject = NULL WHERE id = " + second, 2},
		"what it concerns":       {"UPDATE audit_events SET object = '' WHERE id = " + second, 2},
		"when it was": {"UPDATE audit_events SET at = at + interval '1 microsecond' WHERE id = " +
			second, 2},
		"its digest": {"UPDATE audit_events SET personal_digest = '' WHERE id = " + second, 2},
		"where it came from": {"UPDATE audit_personal SET ip_address = '192.0.2.2' WHERE event_id = " + second,
			2},
		"its user agent": {"UPDATE audit_personal SET user_agent = 'curl' WHERE event_id = " + second, 2},
		"one character between fields": {"UPDATE audit_events SET reason = reason || left(object, 1), object = " +
			"substr(object, 2) WHERE id = " + second, 2},
		"two events' order": {"UPDATE audit_events e SET reason = o.reason FROM audit_events o WHERE " +
			"e.seal = 2 AND o.seal = 2 AND e.reason::int = 3 - o.reason::int", 2},
		"an event moved":        {"UPDATE audit_events SET seal = 3 WHERE id = " + second, 2},
		"an event's seal taken": {"UPDATE audit_events SET seal = NULL WHERE id = " + second, 2},
		"an event removed": {`WITH gone AS (DELETE FROM audit_personal WHERE event_id = ` + second +
			` RETURNING event_id)
			DELETE FROM audit_events WHERE id = ` + second, 2},
		"an event added": {`INSERT INTO audit_events
			(id, at, type, outcome, reason, object, personal_digest, seal)
			VALUES (gen_random_uuid(), now(), 'session.login', 'OK', '', '', '', 2)`, 2},
		"an event added to no seal there is": {`INSERT INTO audit_events
			(id, at, type, outcome, reason, object, personal_digest, seal)
			VALUES (gen_random_uuid(), now(), 'session.login', 'OK', '', '', '', 9)`, 4},
		"an event added before the first": {`INSERT INTO audit_events
			(id, at, type, outcome, reason, object, personal_digest, seal)
			VALUES (gen_random_uuid(), now(), 'session.login', 'OK', '', '', '', 0)`, 4},
		"a seal removed":          {"DELETE FROM audit_seals WHERE number = 2", 2},
		"the last seal removed":   {"DELETE FROM audit_seals WHERE number = 3", 3},
		"the first seal removed":  {"DELETE FROM audit_seals WHERE number = 1", 1},
		"a seal's time":           {"UPDATE audit_seals SET at = at + interval '1 second' WHERE number = 2", 2},
		"a seal's count":          {"UPDATE audit_seals SET events = 3 WHERE number = 2", 2},
		"a seal's hash":           {"UPDATE audit_seals SET hash = sha256('x') WHERE number = 2", 2},
		"what a seal follows":     {"UPDATE audit_seals SET previous = sha256('x') WHERE number = 2", 2},
		"two seals swapped":       {"UPDATE audit_seals SET number = 5 - number + 100 WHERE number IN (2, 3)", 2},
		"everything but the seal": {"DELETE FROM audit_personal; DELETE FROM audit_events WHERE seal = 2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecord(t)
			r.sealed(t)
			for _, s := range strings.Split(tt.statement, "; ") {
				r.tamper(t, s)
			}
			_, err := r.Verify(t.Context(), nil)
			var broken *audit.BrokenChainError
			if !errors.As(err, &broken) || broken.Seal != tt.seal {
				t.Errorf("found %v, want it broken at seal %d", err, tt.seal)
			}
		})
	}
}

// Who owns the table can work a whole chain out anew, or cut off its end; a hash
// that stands elsewhere shows it.
func TestAKnownHashShowsAChainThatWasMadeAnew(t *testing.T) {
	r := newRecord(t)
	r.sealed(t)
	seals, err := r.store.Seals(t.Context(), 0, 10)
	if err != nil || len(seals) != 3 {
		t.Fatal(seals, err)
	}
	known := map[int64]audit.Hash{2: seals[1].Hash}
	if _, err := r.Verify(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	r.tamper(t, "UPDATE audit_events SET reason = 'x', seal = NULL")
	r.tamper(t, "TRUNCATE audit_seals")
	for range 3 {
		if err := r.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Verify(t.Context(), nil); err != nil {
		t.Errorf("without a known hash: %v", err) // the control
	}
	var broken *audit.BrokenChainError
	if _, err := r.Verify(t.Context(), known); !errors.As(err, &broken) || broken.Seal != 2 {
		t.Errorf("with one: %v", err)
	}
}

func TestSealersAtOnceMakeOneChainOfAllThatIsRecordedMeanwhile(t *testing.T) {
	r := newRecord(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { r.events(t, 25) })
		all.Go(func() {
			for range 10 {
				if err := r.Seal(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := r.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := r.Verify(t.Context(), nil)
	if err != nil || report.Events != 100 || report.Unsealed != 0 {
		t.Errorf("found %+v, %v", report, err)
	}
}

// busy seals what is recorded beside a look at what has no seal that is known.
type busy struct {
	*store.Audit
	meanwhile func()
}

func (b *busy) CountUncovered(ctx context.Context, last int64) (beyond, unsealed int, oldest time.Time, err error) {
	b.meanwhile()
	return b.Audit.CountUncovered(ctx, last)
}

func TestAChainThatGrowsWhileItIsVerifiedIsWhole(t *testing.T) {
	r := newRecord(t)
	r.sealed(t)
	more := 2
	b := &busy{r.store, func() {
		if more--; more < 0 {
			return
		}
		r.events(t, 2)
		if err := r.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}}
	chain := audit.NewChain(b, slog.New(slog.DiscardHandler), time.Now)
	report, err := chain.Verify(t.Context(), nil)
	if err != nil || report.Last.Number != 5 || report.Events != 16 || report.Unsealed != 0 {
		t.Errorf("found %+v, %v", report, err)
	}
	more = 1 // the control: a stray event is found beside it
	r.tamper(t, `INSERT INTO audit_events
			(id, at, type, outcome, reason, object, personal_digest, seal)
		VALUES (gen_random_uuid(), now(), 'session.login', 'OK', '', '', '', 19)`)
	var broken *audit.BrokenChainError
	if _, err := chain.Verify(t.Context(), nil); !errors.As(err, &broken) || broken.Seal != 7 {
		t.Error(err)
	}
}
