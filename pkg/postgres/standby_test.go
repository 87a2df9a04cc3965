package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

// When an operator cancels a commit that waits for its synchronous standby, the server says that it has committed,
// which isn't what the caller was promised.
func TestACommitThatNoStandbyHasIsNoSuccess(t *testing.T) {
	settings := map[string]string{"synchronous_commit": "on"}
	primary, err := pgserver.Start(t.Context(), pgserver.Options{InMemory: true, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	stop := func(s *pgserver.Server) {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	defer stop(primary)
	standby, err := pgserver.StartStandby(t.Context(), primary, pgserver.Options{InMemory: true, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(standby)
	db := open(t, postgres.Options{URL: primary.URL("postgres"), Name: "waits"})
	if err := db.Gorm(t.Context()).Exec(`CREATE TABLE notes (id int PRIMARY KEY)`).Error; err != nil {
		t.Fatal(err)
	}
	if err := primary.Set(t.Context(), "synchronous_standby_names", "*"); err != nil {
		t.Fatal(err)
	}
	insert := func(id int) error {
		return postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
			return tx.Exec(`INSERT INTO notes VALUES (?)`, id).Error
		})
	}
	testkit.Eventually(t, time.Minute, func() bool {
		var synchronous int
		err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`).
			Scan(&synchronous).Error
		return err == nil && synchronous == 1
	})
	if err := insert(1); err != nil {
		t.Fatal(err)
	}
	standby.Pause()
	cancel := func() {
		t.Helper()
		testkit.Eventually(t, time.Minute, func() bool {
			var cancelled int
			err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM (SELECT pg_cancel_backend(pid) FROM pg_stat_activity
				WHERE wait_event = 'SyncRep') c`).Scan(&cancelled).Error
			return err == nil && cancelled > 0
		})
	}
	answer := make(chan error, 1)
	go func() { answer <- insert(2) }()
	cancel()
	err = testkit.Receive(t, answer, time.Minute)
	if e := errs.As(postgres.Translate(err)); !errors.Is(err, postgres.ErrCommitUnknown) || e == nil ||
		e.Kind != errs.KindUnavailable || e.Reason != "DATABASE_UNAVAILABLE" {
		t.Errorf("without the standby: %v", err)
	}
	// The control: the driver takes it for a success.
	plain, err := pgx.Connect(t.Context(), primary.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close(context.Background()) }()
	tx, err := plain.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO notes VALUES (3)`); err != nil {
		t.Fatal(err)
	}
	go func() { answer <- tx.Commit(t.Context()) }()
	cancel()
	if err := testkit.Receive(t, answer, time.Minute); err != nil {
		t.Errorf("the driver itself says %v, so that nothing has to be done", err)
	}
	standby.Resume()
	next := 3
	testkit.Eventually(t, time.Minute, func() bool { next++; return insert(next) == nil })
	var n int
	if err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM notes`).Scan(&n).Error; err != nil || n < 4 {
		t.Errorf("%d rows, %v", n, err)
	}
}
