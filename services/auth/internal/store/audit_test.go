package store_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestAnEventNeverChanges(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	ctx := audit.WithClient(t.Context(), audit.Client{IPAddress: "192.0.2.1", UserAgent: "grpcurl"})
	subject := uuid.New()
	err := store.NewAudit(db.DB).Record(ctx, audit.Event{Type: audit.Login, Outcome: audit.Refused,
		Reason: "INVALID_CREDENTIALS", Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"UPDATE audit_events SET reason = ''",
		"UPDATE audit_events SET seal = 1, reason = ''",
		"DELETE FROM audit_events",
	} {
		if err := db.Gorm(t.Context()).Exec(statement).Error; err == nil {
			t.Errorf("%s was let through", statement)
		}
	}
	for _, statement := range []string{"DELETE FROM audit_personal", "UPDATE audit_events SET seal = 1"} {
		if err := db.Gorm(t.Context()).Exec(statement).Error; err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if err := db.Gorm(t.Context()).Exec("UPDATE audit_events SET seal = 2").Error; err == nil {
		t.Error("an event was sealed twice")
	}
}

func TestAnEventKeepsADigestOfWhereItCameFrom(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	from := audit.Client{IPAddress: "192.0.2.1", UserAgent: "grpcurl"}
	err := store.NewAudit(db.DB).Record(audit.WithClient(t.Context(), from), audit.Event{Type: audit.Logout})
	if err != nil {
		t.Fatal(err)
	}
	var row struct {
		PersonalDigest, Salt []byte
		IPAddress, UserAgent string
	}
	err = db.Gorm(t.Context()).Raw("SELECT e.personal_digest, p.salt, p.ip_address, p.user_agent " +
		"FROM audit_events e JOIN audit_personal p ON p.event_id = e.id").Scan(&row).Error
	if err != nil {
		t.Fatal(err)
	}
	if row.IPAddress != from.IPAddress || row.UserAgent != from.UserAgent ||
		string(row.PersonalDigest) != string(from.Digest(row.Salt)) {
		t.Errorf("recorded %+v", row)
	}
	if other := (audit.Client{IPAddress: "192.0.2.1g", UserAgent: "rpcurl"}); string(other.Digest(row.Salt)) == string(
		row.PersonalDigest) {
		t.Error("another client has the same digest")
	}
}
