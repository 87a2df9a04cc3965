package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// Taking the snapshot of an hour again and again, as many callers do at once, waits for nobody: it can change nothing.
func TestASnapshotThatIsThereIsReturnedWithoutALock(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	first, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil || !first.GetStored() {
		t.Fatal(first, err)
	}
	other, err := s.db.SQL().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), "SELECT FROM portfolios FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 1500*time.Millisecond) // less than a lock is waited for
	defer cancel()
	again, err := s.TakeSnapshot(limited, &portfoliov1.TakeSnapshotRequest{})
	if err != nil || again.GetStored() {
		t.Errorf("taken again: %v, %v", again, err)
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	// With another wallet it is taken anew.
	s.wallet.setOwned(ownedWallet{id: uuid.NewString(), amount: "5"})
	anew, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil || !anew.GetStored() || whole(anew.GetSnapshot().GetTotal()) != "10" {
		t.Errorf("with another wallet: %v, %v", anew, err)
	}
}
