package postgres_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestAPoolerWithoutItsSettingIsNamedAtTheStart(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	for name, tc := range map[string]struct {
		mode   string
		ignore bool
		want   string // of the error; "" for none
	}{
		"one that refuses the settings of a connection": {"transaction", false, "refuses the settings"},
		"one in transaction mode":                       {"transaction", true, "gives a connection to others"},
		"one in session mode that drops the settings":   {"session", true, "drops the settings"},
	} {
		t.Run(name, func(t *testing.T) {
			through := testkit.PgBouncer(t, own.URL, tc.mode, tc.ignore)
			o := postgres.Options{URL: through, Lazy: true}
			plain := open(t, o)
			err := plain.Accepts(t.Context())
			wantReason(t, err, "DATABASE_POOLER")
			for what, err := range map[string]error{"the start": err,
				"migrate": postgres.Migrate(t.Context(), plain, accounts())} {
				if err == nil || !strings.Contains(err.Error(), tc.want) ||
					!strings.Contains(err.Error(), "PURSER_DATABASE_PGBOUNCER=true") {
					t.Errorf("%s: %v", what, err)
				}
			}
			o.PgBouncer = true
			if err := open(t, o).Accepts(t.Context()); err != nil {
				t.Errorf("with its setting: %v", err)
			}
			if _, err := postgres.CheckSchema(t.Context(), open(t, o), accounts()); err != nil {
				t.Errorf("with its setting the schema: %v", err)
			}
		})
	}
	if err := own.Accepts(t.Context()); err != nil {
		t.Errorf("without a pooler: %v", err)
	}
}

// The control: what is refused at the start fails in use otherwise.
func TestInTransactionModePreparedStatementsAreMissing(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	through := testkit.PgBouncer(t, own.URL, "transaction", true)
	read := func(db *postgres.DB) error {
		return db.Gorm(t.Context()).Exec(`SELECT id FROM accounts WHERE id = ?`, 1).Error
	}
	fails := func(pgBouncer bool) error {
		first := open(t, postgres.Options{URL: through, Lazy: true, PgBouncer: pgBouncer, MaxOpenConns: 1})
		second := open(t, postgres.Options{URL: through, Lazy: true, PgBouncer: pgBouncer, MaxOpenConns: 1})
		for range 5 {
			for _, db := range []*postgres.DB{first, second} {
				if err := read(db); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := fails(false); err == nil {
		t.Error("nothing fails without the setting, so there is no reason to refuse it")
	}
	if err := fails(true); err != nil {
		t.Errorf("with the setting: %v", err)
	}
}
