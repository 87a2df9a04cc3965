package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/migrations"
)

// A change of one's own account locks and reads its row once, and the session with what the caller holds once.
func TestAChangeOfOnesOwnAccountReadsTheCallerOnce(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	ctx, id := signedIn(t, db, role.Admin)
	var statements []string
	note := func(tx *gorm.DB) { statements = append(statements, tx.Statement.SQL.String()) }
	for _, register := range []func(string, func(*gorm.DB)) error{
		db.Gorm(ctx).Callback().Query().After("gorm:query").Register,
		db.Gorm(ctx).Callback().Row().After("gorm:row").Register,
		db.Gorm(ctx).Callback().Raw().After("gorm:raw").Register,
		db.Gorm(ctx).Callback().Create().After("gorm:create").Register,
		db.Gorm(ctx).Callback().Update().After("gorm:update").Register,
		db.Gorm(ctx).Callback().Delete().After("gorm:delete").Register,
	} {
		if err := register("note", note); err != nil {
			t.Fatal(err)
		}
	}
	accounts := NewAccounts(db.DB, nil, NewMails(db.DB))
	err := accounts.Change(ctx, id, account.Include{}, func(s account.State, _ time.Time) (account.Changes, error) {
		statements = append(statements, "decide")
		if !s.Caller.May("wallet:read") {
			t.Error("the caller holds nothing")
		}
		return account.Changes{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := statements[:slices.Index(statements, "decide")]
	if len(before) != 2 || !strings.Contains(before[0], "users") || !strings.Contains(before[1], "sessions") {
		t.Errorf("%d statements before the change:\n%s", len(before), strings.Join(before, "\n"))
	}
	testkit.Figure(t, "%d statements lock and read the caller of a change of their own account", len(before))
}
