package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

func probe(t *testing.T, db *postgres.DB) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return db.Probe(ctx)
}

// wantReason fails the test unless err has this reason.
func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if e := errs.As(err); e == nil || e.Reason != reason {
		t.Errorf("%v, want %s", err, reason)
	}
}

func TestAProbeTellsAServerThatIsAwayFromAPoolThatIs(t *testing.T) {
	own := testkit.Postgres(t, nil)
	proxy := testkit.Proxy(t, own.URL)
	db := open(t, postgres.Options{URL: proxy.Rewrite(own.URL), MaxOpenConns: 1})
	if err := probe(t, db); err != nil {
		t.Fatal(err)
	}
	held, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, probe(t, db), "DATABASE_POOL_EXHAUSTED")
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := probe(t, db); err != nil {
		t.Error(err)
	}
	proxy.ToClient(faultproxy.Fault{Blackhole: true})
	begun := time.Now()
	if err := probe(t, db); err == nil || errs.As(err) != nil || time.Since(begun) > 3*time.Second {
		t.Errorf("a server that is silent: %v after %s", err, time.Since(begun))
	}
	proxy.Heal()
	testkit.Eventually(t, time.Minute, func() bool { return probe(t, db) == nil })
}

func TestAProbeOfAStandbySaysThatItTakesNoWrites(t *testing.T) {
	own := testkit.Postgres(t, nil)
	if err := own.Gorm(t.Context()).Exec(`DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`).
		Error; err != nil {
		t.Fatal(err)
	}
	wantReason(t, probe(t, open(t, postgres.Options{URL: own.URL})), "DATABASE_READ_ONLY")
}
