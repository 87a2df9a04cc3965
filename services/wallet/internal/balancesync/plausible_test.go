package balancesync_test

import (
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// The last sync was of block 50, an hour before noon. A chain may grow by 200
// blocks a second, and by 10,000 at once.
func TestABlockThatIsNotPlausibleAfterTheLastOneIsRefused(t *testing.T) {
	const hour = 50 + 10_000 + 200*3600
	earlier := noon().Add(-time.Hour)
	for _, tc := range []struct {
		name   string
		number uint64
		at     time.Time
		reason string // "" for accepted
	}{
		{"the block before", 49, earlier.Add(-12 * time.Second), "CHAIN_BEHIND"},
		{"the block before, of the same second", 49, earlier, "CHAIN_BEHIND"},
		{"the first block of all", 0, earlier.Add(-600 * time.Second), "CHAIN_BEHIND"},
		{"the same block", 50, earlier, ""},
		{"the next block", 51, earlier.Add(12 * time.Second), ""},
		{"as many as a chain can make at once", 50 + 10_000, earlier, ""},
		{"one more than that", 50 + 10_001, earlier, "CHAIN_IMPLAUSIBLE"},
		{"as many as a chain can make in an hour", hour, noon(), ""},
		{"one more than in an hour", hour + 1, noon(), "CHAIN_IMPLAUSIBLE"},
		{"a later block of an earlier time", 51, earlier.Add(-time.Hour), ""},
		{"many blocks of an earlier time", 50 + 10_001, earlier.Add(-time.Hour), "CHAIN_IMPLAUSIBLE"},
		{"the last number there is", 1<<63 - 1, noon(), "CHAIN_IMPLAUSIBLE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(2)
			w.reading.Block = block.Block{Number: tc.number, Hash: [32]byte{9}, Time: tc.at}
			_, _, err := w.sync(t.Context())
			s := w.wallet.Sync
			if tc.reason == "" {
				if err != nil || s.State != wallet.Synced || s.Block != tc.number || w.balances["token 0001"] != 1 {
					t.Errorf("answered %v, recorded %+v, balances %v", err, s, w.balances)
				}
				return
			}
			e := errs.As(err)
			if e == nil || e.Kind != errs.KindUnavailable || e.Reason != tc.reason || e.RetryAfter != 30*time.Second {
				t.Fatalf("answered %v, want %s", err, tc.reason)
			}
			if s.State != wallet.Failed || s.Error != e.Message || s.RetryAt == nil ||
				!s.RetryAt.Equal(noon().Add(30*time.Second)) {
				t.Errorf("recorded %+v", s)
			}
			if s.Block != 50 || !s.At.Equal(earlier) {
				t.Errorf("the last success moved to block %d, %s", s.Block, s.At)
			}
			if w.balances["token 0000"] != 1000 || w.balances["token 0001"] != 1000 {
				t.Errorf("balances %v", w.balances)
			}
		})
	}
}

// A chain that grew from block 50 of an hour ago has no lower block that is newer: it
// was reset, or anvil and hardhat were started anew. A wallet must not stay frozen until
// the new chain is as long as the old one.
func TestAChainThatWasResetIsReadAndToldOf(t *testing.T) {
	for _, number := range []uint64{0, 1, 49} {
		w := newWorld(2)
		w.reading.Block = block.Block{Number: number, Hash: [32]byte{9}, Time: noon()}
		got, _, err := w.sync(t.Context())
		if err != nil || got.Sync.State != wallet.Synced || got.Sync.Block != number ||
			w.balances["token 0001"] != 1 ||
			!strings.Contains(got.Sync.Error, "the chain was reset: it is at block") {
			t.Errorf("block %d: %v, %+v", number, err, got.Sync)
		}
		w.reading.Block.Number++
		w.reading.Block.Time = noon().Add(time.Second)
		if got, _, err = w.sync(t.Context()); err != nil || got.Sync.Error != "" || got.Sync.Block != number+1 {
			t.Errorf("after it: %v, %+v", err, got.Sync)
		}
	}
}

func TestTheFirstSyncTakesAnyBlock(t *testing.T) {
	for _, number := range []uint64{0, 1, 23_000_000, 1<<63 - 1} {
		w := newWorld(2)
		w.wallet.Sync = wallet.Sync{State: wallet.Pending}
		w.reading.Block.Number = number
		got, n, err := w.sync(t.Context())
		if err != nil || n != 2 || got.Sync.Block != number || w.balances["token 0001"] != 1 {
			t.Errorf("block %d: %v, %+v", number, err, got.Sync)
		}
	}
}

// A later read may be from another node.
func TestAfterARefusedBlockAPlausibleOneIsAccepted(t *testing.T) {
	w := newWorld(2)
	sound := w.reading.Block
	w.reading.Block.Number = 1 << 40
	if _, _, err := w.sync(t.Context()); err == nil {
		t.Fatal("a made-up block was believed")
	}
	w.reading.Block = sound
	if got, _, err := w.sync(t.Context()); err != nil || got.Sync.State != wallet.Synced || got.Sync.Block != 100 ||
		got.Sync.Error != "" || got.Sync.RetryAt != nil {
		t.Errorf("answered %v, %+v", err, got.Sync)
	}
}
