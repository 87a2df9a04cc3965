package history_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// littleTime is how long a call has that is to run out of time. It reads for a half of it, and has to store and list
// what it has read in the last quarter, also on a busy machine.
const littleTime = 2 * time.Second

// within makes a call of this many hours that has little time.
func (f *fixture) within(t *testing.T, hours int, after history.Cursor) ([]history.Row, *history.Cursor, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), littleTime)
	defer cancel()
	return f.List(ctx, f.owner, day(), day().Add(time.Duration(hours)*time.Hour), after, 1000)
}

func TestAFeedThatHangsDoesNotWithholdTheBalances(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	f.feedHangs = true
	rows, next, err := f.within(t, 3, history.Cursor{})
	if err != nil || next != nil || len(rows) != 6 {
		t.Fatal(len(rows), next, err)
	}
	for _, r := range rows {
		if r.Balance == nil || r.Quote.Reason != price.SourceUnavailable {
			t.Errorf("balance %+v, quote %+v", r.Balance, r.Quote)
		}
	}
	f.feedHangs = false // and none of them is taken to have no price
	f.wantAll(t, mustRead(t, f, 3), 3)
}

// Two chains whose state is gone, and slow to say so: what the first one takes
// must leave time for the second.
func TestSlowChainsThatFailDoNotKeepEachOtherFromBeingAsked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	f.add(t, f.owner, 2, 9)
	f.hourError = func(uint64, time.Time) string { return "pruned" }
	f.during = func(ctx context.Context, n int) {
		if n%20 == 0 {
			<-ctx.Done()
		}
	}
	after := history.Cursor{}
	rows := 0
	for calls := 1; ; calls++ {
		some, next, err := f.within(t, 20, after)
		if err != nil {
			t.Fatal(err)
		}
		if rows += len(some); next == nil {
			break
		}
		if *next == after || calls > 10 {
			t.Fatalf("call %d got no further than %+v", calls, *next)
		}
		after = *next
	}
	if rows != 60 {
		t.Errorf("%d rows", rows)
	}
}

func TestAWalletOnAChainWithoutANodeFailsAndLeavesTheOthers(t *testing.T) {
	f := newFixture(t, noRedis)
	unconfigured := f.add(t, f.owner, 999, 9)
	f.chainWithoutNode = 999
	rows, _ := f.read(t, 60, 1000)
	if len(rows) != 180 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		s := r.Wallet.Sync
		if of := r.Wallet.ID == unconfigured.ID; of != (s.State == wallet.Failed) ||
			of != strings.Contains(s.Error, "no node") || of != (r.Balance == nil) {
			t.Fatalf("sync %+v", s)
		}
	}
}

// A chain that is away is told of its own wallets, and read once it is back.
func TestAChainThatIsAwayLeavesTheOthers(t *testing.T) {
	f := newFixture(t, noRedis)
	failing := f.add(t, f.owner, 2, 9)
	f.chainAway = 2
	rows, _ := f.read(t, 200, 2000)
	if len(rows) != 600 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		s := r.Wallet.Sync
		if of := r.Wallet.ID == failing.ID; of != (s.State == wallet.Failed) || of != (s.Error == "no node answers") ||
			of != (r.Balance == nil) {
			t.Fatalf("sync %+v", s)
		}
	}
	if f.chainAsked[2] > 1 {
		t.Errorf("the chain that is away was asked %d times in a call", f.chainAsked[2])
	}
	f.chainAway = 0
	rows, _ = f.read(t, 200, 2000)
	for _, r := range rows {
		if r.Wallet.Sync.State != wallet.Synced {
			t.Fatalf("the chain is back, and told is %+v", r.Wallet.Sync)
		}
	}
	f.chainAway, f.chainErr = 0, errs.Unavailable("CHAIN_UNAVAILABLE", "no node answers") // of all chains
	from := day().Add(200 * time.Hour)
	_, _, err := f.List(t.Context(), f.owner, from, from.Add(10*time.Hour), history.Cursor{}, 1000)
	if !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("when all chains are away: %v", err)
	}
}

// Only the first page of a complete hour requests its prices.
func TestTheNextPageOfAnHourDoesNotFetchItsPricesAgain(t *testing.T) {
	f := newFixture(t, noRedis)
	f.feedErr = errs.Unavailable("X", "unavailable")
	f.read(t, 1, 1)
	if f.pricesRequested != 1 { // both wallets hold the one token
		t.Errorf("%d prices were requested in two pages", f.pricesRequested)
	}
}
