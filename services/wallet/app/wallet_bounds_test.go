package app_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// add makes the i-th wallet, and returns its id.
func (s service) add(ctx context.Context, i int, request string) (string, error) {
	resp, err := s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: accountOf(i), RequestId: request,
		AllowUnconfiguredChain: true})
	return resp.GetWallet().GetId(), err
}

func TestAnOwnerHasAtMostAsManyWalletsAsTheDeploymentAllows(t *testing.T) {
	r := startReplicas(t, "PURSER_WALLETS_PER_OWNER=5")
	ctx, other := r.A.user(t), r.A.user(t)
	requests, ids, failures := make([]string, 20), make([]string, 20), make([]error, 20)
	var all sync.WaitGroup
	for i := range ids {
		requests[i] = uuid.NewString()
		all.Go(func() { ids[i], failures[i] = []service{r.A, r.B}[i%2].add(ctx, i, requests[i]) })
	}
	all.Wait()
	var made []int
	for i, err := range failures {
		if err == nil {
			made = append(made, i)
			continue
		}
		e := servicetest.WantError(t, err, errs.KindExhausted, "TOO_MANY_WALLETS")
		if e.Metadata["limit"] != "5" || !strings.Contains(e.Error(), "5 wallets") {
			t.Errorf("the limit isn't told: %v, %v", e, e.Metadata)
		}
	}
	if len(made) != 5 {
		t.Fatalf("%d of 20 calls at once made a wallet, want 5", len(made))
	}
	first := made[0]
	if id, err := r.B.add(ctx, first, requests[first]); err != nil || id != ids[first] {
		t.Errorf("a repeat is answered %s, %v", id, err)
	}
	_, err := r.A.add(ctx, first, "")
	servicetest.WantError(t, err, errs.KindAlreadyExists, "WALLET_EXISTS")
	if _, err := r.A.add(other, 1, ""); err != nil {
		t.Errorf("another owner: %v", err)
	}
	if _, err := r.A.wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: ids[first]}); err != nil {
		t.Fatal(err)
	}
	_, err = r.A.add(ctx, 100, "")
	servicetest.WantError(t, err, errs.KindExhausted, "TOO_MANY_WALLETS")
	if _, err := r.A.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: ids[first]}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.B.add(ctx, 100, ""); err != nil {
		t.Errorf("in the place of a deleted one: %v", err)
	}
}

// syncs calls SyncWallet on both replicas in turn, until it is refused for being called
// too often, and returns how often it was not.
func syncs(ctx context.Context, t *testing.T, id string, on ...service) (calls int) {
	t.Helper()
	for ; calls < 100; calls++ {
		_, err := on[calls%len(on)].wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: id})
		if errs.Is(err, errs.KindExhausted) {
			e := servicetest.WantError(t, err, errs.KindExhausted, "TOO_MANY_SYNCS")
			if e.RetryAfter <= 0 || e.RetryAfter > 30*time.Second || e.Metadata["limit"] != "2" ||
				!strings.Contains(e.Error(), "2 times in a minute") {
				t.Errorf("answered %v, %v, retry after %s", e, e.Metadata, e.RetryAfter)
			}
			return calls
		}
		servicetest.WantError(t, err, errs.KindFailedPrecondition, "CHAIN_NOT_CONFIGURED")
	}
	return calls
}

func TestAnOwnerSyncsWalletsAFewTimesAMinuteOnAllReplicasTogether(t *testing.T) {
	r := startReplicas(t, "PURSER_SYNCS_PER_MINUTE=2")
	ctx, other := r.A.user(t), r.A.user(t)
	w, theirs := r.A.create(ctx, t, account), r.A.create(other, t, account)
	begun := time.Now()
	if calls := syncs(ctx, t, w.GetId(), r.A, r.B); calls < 2 || calls > 2+int(time.Since(begun)/(30*time.Second)) {
		t.Errorf("%d calls were served, want 2", calls)
	}
	if calls := syncs(other, t, theirs.GetId(), r.B, r.A); calls < 2 {
		t.Errorf("another owner has %d calls", calls)
	}
}

// The control of the test above: without Redis each replica counts alone.
func TestReplicasWithoutRedisLetMoreSyncsThrough(t *testing.T) {
	a := start(t, "PURSER_SYNCS_PER_MINUTE=2")
	b := replica(t, a.db, a.issuer, servicetest.NoRedis, tokenList, &testkit.LogBuffer{}, "PURSER_SYNCS_PER_MINUTE=2")
	ctx := a.user(t)
	if calls := syncs(ctx, t, a.create(ctx, t, account).GetId(), a, b); calls < 4 {
		t.Errorf("%d calls were served, want 4: the limit proves nothing", calls)
	}
}
