package chain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// hashOf is that of a block of linked.
func hashOf(number uint64) common.Hash { return common.Hash{0xbb, 31: byte(number)} }

// linked is a block whose parent is the one before it.
func linked(number uint64, transactions ...any) map[string]any {
	b := blockJSON(number, noon())
	b["hash"], b["parentHash"] = hashOf(number), hashOf(number-1)
	b["transactions"] = append([]any{}, transactions...)
	return b
}

// A node can say of new blocks what it likes. What doesn't fit together is an error, and the rest is about wallets to
// be synced, whose balances are read by other means.
func TestWhatANodeSaysOfNewBlocksFitsTogether(t *testing.T) {
	const first, head = 98, 100
	sender, receiver, holder := common.Address{1}, common.Address{2}, common.Address{3}
	contract := common.Address{0xee}
	transfer := crypto.Keccak256Hash([]byte("Transfer(address,address,uint256)"))
	payment := map[string]any{"from": sender, "to": receiver, "value": "0x1"}
	event := func(change func(map[string]any)) any {
		e := map[string]any{"address": contract, "blockNumber": hexutil.Uint64(99), "data": common.Hash{31: 1},
			"topics": []common.Hash{transfer, common.BytesToHash(sender[:]), common.BytesToHash(holder[:])}}
		change(e)
		return e
	}
	block := func(number uint64, change func(map[string]any)) func(*node) {
		return func(n *node) {
			past := n.past
			n.past = func(asked uint64) any {
				b, ok := past(asked).(map[string]any)
				if ok && asked == number {
					change(b)
				}
				return b
			}
		}
	}
	logs := func(events ...any) func(*node) {
		return func(n *node) { n.logs = func() any { return append([]any{}, events...) } }
	}
	for name, tc := range map[string]struct {
		change func(*node)
		want   string // "98: …; 99: …; 100: …", or a part of the error
	}{
		"an honest node": {func(*node) {}, "98: ; 99: 1 2 1 3; 100: "},
		"no event": {logs(),
			"98: ; 99: 1 2; 100: "},
		"an event of no block": {logs(event(func(e map[string]any) { delete(e, "blockNumber") })),
			"was not asked for"},
		"an event of an earlier block": {logs(event(func(e map[string]any) { e["blockNumber"] = "0x61" })),
			"was not asked for"},
		"an event of a later block": {logs(event(func(e map[string]any) { e["blockNumber"] = "0x65" })),
			"was not asked for"},
		"an event of the last block there can be": {logs(event(func(e map[string]any) {
			e["blockNumber"] = "0xffffffffffffffff"
		})), "was not asked for"},
		"an event of a contract that is on no list": {logs(event(func(e map[string]any) {
			e["address"] = common.Address{0xef}
		})), "98: ; 99: 1 2; 100: "},
		"an event of no contract": {logs(event(func(e map[string]any) { e["address"] = nil })),
			"98: ; 99: 1 2; 100: "},
		"an event that was taken back": {logs(event(func(e map[string]any) { e["removed"] = true })),
			"98: ; 99: 1 2; 100: "},
		"an event of another kind": {logs(event(func(e map[string]any) {
			e["topics"] = []common.Hash{{1}, {2}, {3}}
		})), "98: ; 99: 1 2; 100: "},
		"an event without topics": {logs(event(func(e map[string]any) { e["topics"] = nil })),
			"98: ; 99: 1 2; 100: "},
		"an event about nothing": {logs(event(func(e map[string]any) { e["data"] = common.Hash{} })),
			"98: ; 99: 1 2; 100: "},
		"an event with too much data": {logs(event(func(e map[string]any) {
			e["data"] = hexutil.Bytes(make([]byte, 64))
		})),
			"98: ; 99: 1 2; 100: "},
		"null for an event": {logs(nil),
			"98: ; 99: 1 2; 100: "},
		"null for a block": {func(n *node) { n.past = func(uint64) any { return nil } },
			"the blocks changed"},
		"a block without a hash": {block(99, func(b map[string]any) { b["hash"] = nil }),
			"the blocks changed"},
		"a block without a parent": {block(99, func(b map[string]any) { delete(b, "parentHash") }),
			"the blocks changed"},
		"a block of another fork": {block(99, func(b map[string]any) { b["hash"] = common.Hash{1} }),
			"the blocks changed"},
		"a head of another fork": {block(100, func(b map[string]any) { b["hash"] = common.Hash{1} }),
			"the blocks changed"},
		"a transaction of nobody": {block(98, func(b map[string]any) {
			b["transactions"] = []any{nil, map[string]any{}, map[string]any{"to": receiver}}
		}), "98: ; 99: 1 2 1 3; 100: "},
		"a value that is no number": {block(98, func(b map[string]any) {
			b["transactions"] = []any{map[string]any{"from": sender, "to": receiver, "value": "much"}}
		}), "transactions of block 98"},
		"no answer about events": {func(n *node) { n.logs = nil }, "events of blocks 98 to 100"},
		"a refusal of blocks": {func(n *node) {
			n.past = func(uint64) any { return fault{-32000, "no such block"} }
		}, "transactions of block"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.head = linked(head)
			n.past = func(number uint64) any {
				if number == 99 {
					return linked(number, payment)
				}
				return linked(number)
			}
			logs(event(func(map[string]any) {}))(n)
			tc.change(n)
			got, err := newReader(t, 10, n.URL).Touched(t.Context(), 1, first-1, []common.Address{contract})
			text := fmt.Sprint(err)
			if err == nil {
				var blocks []string
				for i, accounts := range got.Accounts {
					var names []string
					for _, a := range accounts {
						names = append(names, fmt.Sprint(a[0]))
					}
					blocks = append(blocks, fmt.Sprintf("%d: %s", got.First+uint64(i), strings.Join(names, " ")))
				}
				text = strings.Join(blocks, "; ")
			}
			if err == nil && text != tc.want || !strings.Contains(text, tc.want) {
				t.Errorf("it is read as %q, want %q", text, tc.want)
			}
			if err == nil && (got.Newest.Number != head || got.Parent != hashOf(first-1)) {
				t.Errorf("from the newest %d to the parent %s", got.Newest.Number, got.Parent)
			}
		})
	}
}

// However late the newest block is said to be, no more than the last ones are asked for.
func TestANodeFarAheadIsAskedForItsLastBlocks(t *testing.T) {
	const head = 1<<62 + 1
	n := newNode(t)
	asked := make(chan uint64, 1000)
	of := func(number uint64) map[string]any {
		b := linked(number)
		b["hash"], b["parentHash"] = common.Hash{31: byte(number)}, common.Hash{31: byte(number - 1)}
		return b
	}
	n.head = of(head)
	n.past = func(number uint64) any {
		asked <- number
		return of(number)
	}
	got, err := newReader(t, 10, n.URL).Touched(t.Context(), 1, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.First != head-63 || len(got.Accounts) != 64 || len(asked) != 64 {
		t.Errorf("%d blocks from %d on are read with %d questions", len(got.Accounts), got.First, len(asked))
	}
}

// A provider that allows fewer blocks, or events, in an answer than were made since the last poll is asked for parts.
func TestTransfersOfNewBlocksAreReadInPartsAfterARefusal(t *testing.T) {
	t.Parallel()
	const head, after = 1_000_000, 1_000_000 - 64
	for limit, asked := range map[uint64]string{64: "[64]", 20: "[64 32 16 16 16 16]", 1: ""} {
		n := newLogNode(t, limit, false, errorAnswer(200, -32005, "query returned more than 10000 results"))
		n.head = linked(head)
		n.past = func(number uint64) any { return linked(number) }
		got, err := newReader(t, 10, n.URL).Touched(t.Context(), 1, after, []common.Address{{7}})
		if err != nil || len(got.Accounts) != 64 {
			t.Fatalf("with at most %d blocks in an answer: %d blocks and %v, want 64", limit, len(got.Accounts), err)
		}
		if of := fmt.Sprint(n.asked); asked != "" && of != asked {
			t.Errorf("with at most %d blocks in an answer it asked for %s, want %s", limit, of, asked)
		}
		if touched := len(got.Accounts[63]); touched != 2 {
			t.Errorf("block %d touched %d accounts, want the 2 of its transfer", head, touched)
		}
	}
}
