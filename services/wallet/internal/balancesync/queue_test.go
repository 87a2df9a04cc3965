package balancesync_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// slow is a fakeQueue whose chain takes its time for a batch.
type slow struct {
	*fakeQueue
	takes time.Duration
	read  func() // runs when a batch has taken it
}

func (s slow) ReadBatch(ctx context.Context, chain, atLeast uint64,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.read != nil {
		s.read()
	}
	readings, err := s.fakeQueue.ReadBatch(ctx, chain, atLeast, requests)
	for i := range readings {
		readings[i].Block = block.Block{Number: uint64(time.Now().Unix() / 12), Time: time.Now()}
	}
	return readings, err
}

// run is a round that is cut off after four minutes.
func (s slow) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	return balancesync.NewRound(s, s, noContracts{}, s, 5*time.Minute, 200, slog.New(slog.DiscardHandler), time.Now).
		Run(ctx, 0, 1)
}

// never counts the wallets that were never synced.
func (c *fakeQueue) never() int {
	n := 0
	for _, w := range c.wallets {
		if w.Sync.At == nil {
			n++
		}
	}
	return n
}

// A round begins every five minutes and comes to 7 of 20 batches.
func TestARoundThatIsCutOffGoesOnWithThoseThatWaitLongest(t *testing.T) {
	for name, byID := range map[string]bool{"those that wait longest come first": false,
		"control: in the order of ids": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slow{fakeQueue: newFakeQueue(map[uint64]int{1: 400}), takes: 32 * time.Second}
				s.tokens, s.byID = 250, byID
				for range 8 {
					tick := time.After(5 * time.Minute)
					if err := s.run(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
					<-tick
				}
				if n := s.never(); byID != (n > 0) {
					t.Errorf("%d of 400 wallets were never synced in 8 rounds", n)
				}
			})
		})
	}
}

func TestAWalletIsReadOnceARoundWhenItsChainHasNoNewBlock(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 450})
	c.newest[1] = block.Block{Number: 7, Time: noon().Add(-time.Hour)}
	if err := c.run(t.Context()); err != nil || c.reads[1] != 3 || c.never() != 0 {
		t.Errorf("450 wallets in %d readings, %d never: %v", c.reads[1], c.never(), err)
	}
}

func TestALeaseEndsAfterTheLongestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slow{fakeQueue: newFakeQueue(map[uint64]int{1: 3}), takes: 4*time.Minute - time.Second}
		s.read = func() {
			for _, w := range s.wallets {
				if w.Sync.State != wallet.Syncing || w.Sync.RetryAt.Before(time.Now().Add(time.Second)) {
					t.Errorf("a live sync reads as %+v at %s", w.Sync, time.Now())
				}
			}
		}
		if err := s.run(t.Context()); err != nil || s.states(1)[wallet.Synced] != 3 {
			t.Errorf("%v, %v", s.states(1), err)
		}
	})
}

func TestTheEndOfARoundFailsNoWallet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slow{fakeQueue: newFakeQueue(map[uint64]int{1: 3}), takes: time.Hour}
		hour := time.Now().Add(-time.Hour)
		states := []wallet.Sync{{State: wallet.Pending}, {State: wallet.Synced, Block: 7, At: &hour},
			{State: wallet.Failed, Error: "away", RetryAt: &hour}}
		before := map[uuid.UUID]wallet.Sync{}
		for id, w := range s.wallets {
			w.Sync, states = states[0], states[1:]
			s.wallets[id], before[id] = w, w.Sync
		}
		if err := s.run(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("answered %v", err)
		}
		for id, w := range s.wallets {
			if w.Sync != before[id] {
				t.Errorf("a wallet that was %+v is %+v", before[id], w.Sync)
			}
		}
	})
}

func TestABatchTakesNoMoreCallsThanItsLimit(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 60})
	c.tokens = 100
	err := balancesync.NewRound(c, c, noContracts{}, c, 5*time.Minute, 40, slog.New(slog.DiscardHandler), noon).
		Run(t.Context(), 0, 1)
	if err != nil || c.largestBatch != 1000 || c.states(1)[wallet.Synced] != 60 {
		t.Errorf("%d balances in one reading, %v, %v", c.largestBatch, c.states(1), err)
	}
}
