package chain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// A node that stands still answers everything, as it was when it stopped.
func TestANodeThatLagsIsPassedOver(t *testing.T) {
	for _, tc := range []struct {
		name   string
		number uint64
		age    time.Duration // of the first node's head; the second has block 100 of noon
		read   uint64        // the block that is read, and below atLeast none
		least  uint64
	}{
		{"20 hours old", 40, 20 * time.Hour, 100, 0},
		{"a minute and a second old", 96, 61 * time.Second, 100, 0},
		{"a minute old, as between slow nodes", 96, time.Minute, 96, 0},
		{"the newest of all, with a clock that is ahead", 101, -2 * time.Minute, 101, 0},
		{"a block before that of the last sync", 99, 12 * time.Second, 100, 100},
		{"at that of the last sync", 99, 12 * time.Second, 99, 99},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, second := newNode(t), newNode(t)
			first.head = blockJSON(tc.number, noon().Add(-tc.age))
			r := newReader(t, 10, first.URL, second.URL)
			for range 2 {
				got, err := r.Read(t.Context(), 1, tc.least, common.Address{}, tokens(2))
				if err != nil || got.Block.Number != tc.read || amounts(got) != "1 2" {
					t.Fatalf("read at block %d: %v", got.Block.Number, err)
				}
			}
			if passed := strings.Contains(r.log.String(), "node passed over"); passed != (tc.read != tc.number) {
				t.Errorf("logged %s", r.log)
			}
			if tc.read == tc.number && second.asked() > 0 {
				t.Errorf("the second node was asked %d times for nothing", second.asked())
			}
		})
	}
}

// A node whose clock is ahead, as far as it may be, makes none of the others lag.
func TestANodeWhoseClockIsAheadMakesNoOtherLag(t *testing.T) {
	first, ahead := newNode(t), newNode(t)
	first.head, ahead.head = blockJSON(99, noon().Add(-50*time.Second)), blockJSON(100, noon().Add(2*time.Minute))
	if got, err := newReader(t, 10, first.URL, ahead.URL).read(t, tokens(1)); err != nil || got.Block.Number != 99 {
		t.Errorf("read at block %d: %v", got.Block.Number, err)
	}
}

func TestOfNodesThatAllLagTheNewestIsRead(t *testing.T) {
	oldest, old, broken := newNode(t), newNode(t), newNode(t)
	oldest.head, old.head = blockJSON(10, noon().Add(-9*time.Hour)), blockJSON(50, noon().Add(-5*time.Hour))
	broken.answer = func([]common.Address) any { return "0xdeadbeef" } // has the newest head and no balances
	r := newReader(t, 10, oldest.URL, old.URL, broken.URL)
	got, err := r.read(t, tokens(1))
	if err != nil || got.Block.Number != 50 || amounts(got) != "1" {
		t.Fatalf("read at block %d: %v", got.Block.Number, err)
	}
	got, err = r.Read(t.Context(), 1, 60, common.Address{}, tokens(1))
	if err != nil || got.Block.Number != 50 {
		t.Fatalf("after a sync at block 60, read at block %d: %v", got.Block.Number, err)
	}
	all, err := r.Status(t.Context())
	if err != nil || all[0].Nodes[0].Reason != chainlist.Behind || all[0].Nodes[1].Reason != chainlist.Behind {
		t.Errorf("told: %+v, %v", all, err)
	}
}
