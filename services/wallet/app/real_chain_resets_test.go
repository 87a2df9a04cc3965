package app_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
)

// quickly has a chain that looks reset forgotten after a second.
const quickly = "PURSER_CHAIN_RESET_AFTER=1=1s"

func startForResets(t *testing.T, urls []string, more ...string) service {
	t.Helper()
	return startOnNodes(t, urls, append(more, "PURSER_SYNCS_PER_MINUTE=60000")...)
}

// reset is what ListChains says of the chain's reset.
func (s service) reset(ctx context.Context, t *testing.T) *walletv1.ChainReset {
	t.Helper()
	resp, err := s.tokens.ListChains(ctx, &walletv1.ListChainsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetChains()[0].GetReset_()
}

// syncUntil syncs a wallet until it has an amount of the native coin without an error, and returns the reasons of the
// syncs before.
func (s service) syncUntil(ctx context.Context, t *testing.T, id, amount string) (reasons []string) {
	t.Helper()
	last := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last of the syncs that were to end with %s: %s", amount, last)
		}
	})
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: id})
		w, getErr := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: id})
		if getErr != nil {
			t.Fatal(getErr)
		}
		sync := w.GetWallet().GetSync()
		if reason := sync.GetErrorReason(); reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		last = fmt.Sprint(sync, err)
		return err == nil && sync.GetError() == "" && s.native(ctx, t, id) == amount
	})
	return reasons
}

// The clock of a node that is reset goes back to the time of its first block, and its new chain's first block may be
// the old one's: the wallet was frozen until the new chain's clock had passed the last sync.
func TestRealNodesThatAreResetLeaveNoWalletFrozen(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			s := startForResets(t, []string{string(n)}, quickly)
			ctx := s.user(t)
			w := s.create(ctx, t, "eip155:1:"+receiver).GetId()
			n.Call(t, new(any), "evm_increaseTime", 90) // blocks may be two minutes ahead
			for range 4 {
				n.Send(t, servicetest.NodeHolder, receiver, nil, 2)
			}
			s.syncUntil(ctx, t, w, "8")
			s.run(t, "find_transactions")
			if got := s.movementsOf(ctx, t, w); !slices.Equal(got, []string{"2 TRANSFER", "2 TRANSFER", "2 TRANSFER",
				"2 TRANSFER"}) {
				t.Fatalf("before the reset: %q", got)
			}
			if got := s.reset(ctx, t); got != nil {
				t.Fatalf("a chain that was never reset: %v", got)
			}
			n.Call(t, new(any), kind+"_reset")
			n.Send(t, servicetest.NodeHolder, receiver, nil, 3)
			if got := s.syncUntil(ctx, t, w, "3"); !slices.Contains(got, "CHAIN_RESET") {
				t.Errorf("the syncs said %q", got)
			}
			s.run(t, "find_transactions")
			if got := s.movementsOf(ctx, t, w); !slices.Equal(got, []string{"3 TRANSFER"}) {
				t.Errorf("after the reset: %q", got)
			}
			testkit.Eventually(t, time.Minute, func() bool { return s.reset(ctx, t).GetLastForgetTime() != nil })
			n.Send(t, servicetest.NodeHolder, receiver, nil, 4)
			if got := s.syncUntil(ctx, t, w, "7"); len(got) > 0 {
				t.Errorf("the next sync said %q", got)
			}
		})
	}
}

// A chain that goes back by more blocks than any reorg, and on from there; a public chain, as which this one counts,
// is not forgotten by itself.
func TestARealNodeThatWentFarBackIsTold(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	s := startForResets(t, []string{string(n)})
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+receiver).GetId()
	n.Send(t, servicetest.NodeHolder, receiver, nil, 2)
	s.syncUntil(ctx, t, w, "2")
	var snapshot string
	n.Call(t, &snapshot, "evm_snapshot")
	n.Call(t, new(any), "anvil_mine", hexutil.EncodeUint64(100), "0x1")
	n.Send(t, servicetest.NodeHolder, receiver, nil, 5)
	s.syncUntil(ctx, t, w, "7")
	// The look at the chain after a sync is at most once a second.
	testkit.Eventually(t, time.Minute, func() bool {
		s.mustSync(ctx, t, w)
		var kept int
		if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT max(block_number) FROM chain_blocks").
			Scan(&kept); err != nil {
			t.Fatal(err)
		}
		return kept > 100
	})
	n.Call(t, new(any), "evm_revert", snapshot)
	failedSync := func() *walletv1.Sync {
		t.Helper()
		_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w})
		got, getErr := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: w})
		if err == nil || getErr != nil {
			t.Fatal(err, getErr)
		}
		return got.GetWallet().GetSync()
	}
	if got := failedSync(); got.GetErrorReason() != "CHAIN_BEHIND" ||
		!strings.Contains(got.GetError(), "\"wallet reset-chain eip155:1\"") ||
		!strings.Contains(got.GetError(), "no node has come to block 102, of the last sync: the newest is block 1,") {
		t.Errorf("a chain that only lacks blocks: %v", got)
	}
	n.Send(t, servicetest.NodeHolder, receiver, nil, 3) // another block 2
	n.Call(t, new(any), "anvil_mine", hexutil.EncodeUint64(50), "0x1")
	got := failedSync()
	if got.GetErrorReason() != "CHAIN_RESET" || !strings.Contains(got.GetError(), "wallet reset-chain eip155:1") {
		t.Errorf("a chain with other blocks: %v", got)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		listed := s.reset(ctx, t)
		return listed.GetSuspectTime() != nil && listed.GetForgetTime() == nil && listed.GetError() == got.GetError()
	})
	if amount := s.native(ctx, t, w); amount != "7" {
		t.Errorf("the stored balance is %s", amount)
	}
	out, err := s.command(t, "1="+string(n), "reset-chain", "eip155:1")
	if err != nil || !strings.Contains(out, "eip155:1 has 1 wallets, of which 1 balances") {
		t.Errorf("%q, %v", out, err)
	}
	if got := failedSync(); got.GetErrorReason() != "CHAIN_RESET" {
		t.Errorf("after a command that only tells: %v", got)
	}
	if out, err = s.command(t, "1="+string(n), "reset-chain", "eip155:1", "--yes"); err != nil ||
		!strings.Contains(out, "forgotten of 1 wallets: 1 balances") {
		t.Errorf("%q, %v", out, err)
	}
	s.syncUntil(ctx, t, w, "5")
	_, err = s.command(t, "1="+string(n), "reset-chain", "1")
	servicetest.WantViolation(t, err, "chain")
}

// A chain for development that goes back by a few blocks or by many, and stays there, as it does when nobody uses it:
// no block shows that it did, and its wallets were frozen until somebody made more blocks.
func TestARealNodeThatWentBackAndStaysThereLeavesNoWalletFrozen(t *testing.T) {
	for name, more := range map[string]int{"by few blocks": 2, "by more than any reorg": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := servicetest.StartNode(t, "anvil")
			s := startForResets(t, []string{string(n)}, quickly)
			ctx := s.user(t)
			w := s.create(ctx, t, "eip155:1:"+receiver).GetId()
			n.Send(t, servicetest.NodeHolder, receiver, nil, 2)
			s.syncUntil(ctx, t, w, "2")
			var snapshot string
			n.Call(t, &snapshot, "evm_snapshot")
			n.Call(t, new(any), "anvil_mine", hexutil.EncodeUint64(uint64(more)), "0x1")
			n.Send(t, servicetest.NodeHolder, receiver, nil, 5)
			s.syncUntil(ctx, t, w, "7")
			n.Call(t, new(any), "evm_revert", snapshot)
			if got := s.syncUntil(ctx, t, w, "2"); !slices.Equal(got, []string{"CHAIN_RESET"}) {
				t.Errorf("the syncs said %q", got)
			}
			n.Send(t, servicetest.NodeHolder, receiver, nil, 3)
			if got := s.syncUntil(ctx, t, w, "5"); len(got) > 0 {
				t.Errorf("the next sync said %q", got)
			}
		})
	}
}

// switched passes calls on to one of two nodes.
func switched(t *testing.T, a, b servicetest.Node) (nodeURL string, toB *atomic.Bool) {
	t.Helper()
	toB = &atomic.Bool{}
	var to [2]http.Handler
	for i, n := range []servicetest.Node{a, b} {
		u, err := url.Parse(string(n))
		if err != nil {
			t.Fatal(err)
		}
		to[i] = httputil.NewSingleHostReverseProxy(u)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if toB.Load() {
			to[1].ServeHTTP(w, r)
			return
		}
		to[0].ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, toB
}

// One node of two is of another chain from some time on, and stays so while the other one doesn't answer. The control
// is that both are.
func TestOneRealNodeOfTwoResetsNoChain(t *testing.T) {
	a, process := servicetest.StartNodeProcess(t, "anvil")
	b, _ := servicetest.StartNodeProcess(t, "anvil", "--timestamp",
		fmt.Sprint(time.Now().Add(-20*time.Minute).Unix()))
	for range 3 {
		a.Send(t, servicetest.NodeHolder, receiver, nil, 2)
	}
	b.Send(t, servicetest.NodeHolder, receiver, nil, 1)
	firstURL, first := switched(t, a, b)
	secondURL, second := switched(t, a, b)
	s := startForResets(t, []string{firstURL, secondURL}, quickly)
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+receiver).GetId()
	s.syncUntil(ctx, t, w, "6")
	first.Store(true)
	looks := func(d time.Duration) { // each failed sync is a look
		t.Helper()
		for until := time.Now().Add(d); time.Now().Before(until); {
			_, _ = s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w})
			var resets int
			if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM chain_resets").
				Scan(&resets); err != nil || resets != 0 {
				t.Fatal("one node of two makes the chain look reset", err)
			}
		}
	}
	looks(2 * time.Second)
	if got := s.native(ctx, t, w); got != "6" {
		t.Errorf("with the other node it has %s", got)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	looks(3 * time.Second)
	_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w})
	servicetest.WantError(t, err, errs.KindUnavailable, "CHAIN_BEHIND")
	second.Store(true)
	s.syncUntil(ctx, t, w, "1")
	testkit.Eventually(t, time.Minute, func() bool { return s.reset(ctx, t).GetLastForgetTime() != nil })
}

// The search for transactions takes blocks for replaced only when two nodes say so: it removed what it had found when
// the first one did. The control is that both do.
func TestOneRealNodeOfTwoRemovesNoTransaction(t *testing.T) {
	a := servicetest.StartNode(t, "anvil")
	b, _ := servicetest.StartNodeProcess(t, "anvil", "--timestamp", fmt.Sprint(time.Now().Add(-time.Minute).Unix()))
	for range 3 {
		a.Send(t, servicetest.NodeHolder, receiver, nil, 2)
	}
	for range 6 {
		b.Send(t, servicetest.NodeHolder, receiver, nil, 1)
	}
	firstURL, first := switched(t, a, b)
	secondURL, second := switched(t, a, b)
	s := startForResets(t, []string{firstURL, secondURL})
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+receiver).GetId()
	s.syncUntil(ctx, t, w, "6")
	s.run(t, "find_transactions")
	want := []string{"2 TRANSFER", "2 TRANSFER", "2 TRANSFER"}
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	first.Store(true)
	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "find_transactions"}); err != nil {
		t.Fatal(err)
	}
	fault := ""
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "find_transactions"})
		if err != nil {
			t.Fatal(err)
		}
		fault = runs.GetRuns()[0].GetError()
		return fault != "" || runs.GetRuns()[0].GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DONE
	})
	if got := s.movementsOf(ctx, t, w); !slices.Equal(got, want) ||
		!strings.Contains(fault, "have to agree on block 3") {
		t.Errorf("when one node is of another chain: %q, and the run says %q", got, fault)
	}
	second.Store(true)
	s.exec(t, "UPDATE job_runs SET next_attempt_at = now() WHERE state = 'due'")
	testkit.Eventually(t, time.Minute, func() bool { return !slices.Equal(s.movementsOf(ctx, t, w), want) })
}

func TestTimesOfResetsAreReadOrNamed(t *testing.T) {
	set := func(value string) error {
		var r app.ResetTimes
		err := r.UnmarshalText([]byte(value))
		if err == nil && (r[31337] != 30*time.Second || r[1] >= 0) {
			t.Errorf("%q is %v", value, r)
		}
		return err
	}
	if err := set("31337=30s,1=never"); err != nil {
		t.Error(err)
	}
	for _, value := range []string{"31337=0s", "1=soon", "30s"} {
		if err := set(value); err == nil {
			t.Errorf("%q was taken", value)
		}
	}
}
