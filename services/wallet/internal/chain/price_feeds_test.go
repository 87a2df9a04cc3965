package chain_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/pkg/errs"
)

func TestFeedsAreReadAtOneBlock(t *testing.T) {
	n := withPast(newNode(t))
	reverts := common.Address{19: 2}
	n.plain = func(contract common.Address, block json.RawMessage) any {
		if contract == reverts {
			return fault{3, "execution reverted: No data present"}
		}
		return hexutil.Bytes(block)
	}
	answers, err := newReader(t, 10, n.URL).Feeds(t.Context(), 1, []common.Address{{19: 1}, reverts})
	if err != nil || len(answers) != 2 {
		t.Fatal(answers, err)
	}
	for _, said := range [][]byte{answers[0].Round, answers[0].Decimals, answers[0].Description} {
		if !bytes.Contains(said, []byte(`"blockHash":"`)) || !bytes.Equal(said, answers[0].Round) {
			t.Errorf("read at %s and %s", said, answers[0].Round)
		}
	}
	if len(answers[1].Round) != 0 {
		t.Errorf("a revert is taken for %x", answers[1].Round)
	}
	down := newNode(t)
	down.Close()
	_, err = newReader(t, 10, down.URL).Feeds(t.Context(), 1, []common.Address{{19: 1}})
	unavailable(t, err)
	_, err = newReader(t, 10, down.URL).Feeds(t.Context(), 2, []common.Address{{19: 1}})
	if !errs.Is(err, errs.KindFailedPrecondition) {
		t.Errorf("of a chain without a node: %v", err)
	}
}

func TestPastFeedsAreReadAtTheLastBlockBeforeEachTime(t *testing.T) {
	n := withPast(newNode(t))
	n.plain = func(_ common.Address, block json.RawMessage) any {
		if strings.Contains(string(block), `15"`) { // the end of the hash of block 20
			return fault{-32000, "missing trie node"}
		}
		return hexutil.Bytes(block)
	}
	times := []time.Time{hourOf(0).Add(-time.Minute), hourOf(10).Add(30 * time.Minute), hourOf(20), hourOf(30),
		noon().Add(time.Hour)}
	answers, err := newReader(t, 10, n.URL).FeedsAt(t.Context(), 1, times, []common.Address{{19: 1}})
	if err != nil || len(answers) != len(times) {
		t.Fatal(answers, err)
	}
	for i, number := range []uint64{0, 10, 0, 30, 0} { // 0: before the chain, pruned, and not yet
		if number == 0 {
			if len(answers[i]) != 0 {
				t.Errorf("at %s: %s", times[i], answers[i][0].Round)
			}
			continue
		}
		hash := numbered(number, times[i])["hash"].(common.Hash)
		if len(answers[i]) != 1 || !strings.Contains(string(answers[i][0].Round), hash.Hex()) {
			t.Errorf("at %s: %s, want block %d", times[i], answers[i], number)
		}
	}
}

// Where two nodes have to agree, one that lies about a feed makes no price; alone it does.
func TestAFeedNeedsTheQuorumToo(t *testing.T) {
	feed := []common.Address{{19: 1}}
	sound := func() *node {
		n := trueNode(t)
		n.plain = func(common.Address, json.RawMessage) any { return hexutil.Bytes{1} }
		return n
	}
	lying := trueNode(t)
	lying.plain = func(common.Address, json.RawMessage) any { return hexutil.Bytes{66} }
	for name, tc := range map[string]struct {
		quorum int
		nodes  []string
		want   []byte
	}{
		"the control: one is believed": {1, []string{lying.URL, sound().URL}, []byte{66}},
		"two sound ones are":           {2, []string{lying.URL, sound().URL, sound().URL}, []byte{1}},
		"two that differ are not":      {2, []string{lying.URL, sound().URL}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newQuorumReader(t, tc.quorum, tc.nodes...)
			now, err := r.Feeds(t.Context(), 1, feed)
			if err != nil || len(now) != 1 || !bytes.Equal(now[0].Round, tc.want) {
				t.Errorf("now: %x, %v, want %x", now, err, tc.want)
			}
			past, err := r.FeedsAt(t.Context(), 1, []time.Time{hourOf(10)}, feed)
			if err != nil || len(past) != 1 || (tc.want == nil) != (past[0] == nil) ||
				tc.want != nil && !bytes.Equal(past[0][0].Round, tc.want) {
				t.Errorf("in the past: %x, %v, want %x", past, err, tc.want)
			}
		})
	}
}
