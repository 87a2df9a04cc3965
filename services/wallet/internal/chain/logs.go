package chain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

const (
	// firstLogBlocks is of how many blocks a node is asked for events at first. The number doubles after an answer
	// that took less than quickLogs, up to maxLogBlocks, and is halved after each refusal: providers allow 500,
	// 2,000, 10,000 or any number of blocks, or count the events, and say so in words of their own.
	firstLogBlocks, maxLogBlocks = 2_000, 1 << 20
	quickLogs                    = time.Second
	// logsTimeout bounds one question for events.
	logsTimeout = callTimeout
	// maxLogs bounds the memory of a step: when an answer has more events, half of its blocks are asked for. The
	// events of a single block are read whole, however many they are, up to the size of an answer.
	maxLogs = 20_000
	// maxPastLogs bounds the memory of Transfers.
	maxPastLogs = 5 * maxLogs
)

// transferTopic is the first topic of ERC-20's Transfer(address,address,uint256). ERC-721's has the same, and four
// topics.
var transferTopic = crypto.Keccak256Hash([]byte("Transfer(address,address,uint256)"))

// event is what is used of a log.
type event struct {
	Address          *common.Address `json:"address"`
	Topics           []common.Hash   `json:"topics"`
	Data             hexutil.Bytes   `json:"data"`
	BlockNumber      *hexutil.Uint64 `json:"blockNumber"`
	BlockHash        *common.Hash    `json:"blockHash"`
	TransactionHash  *common.Hash    `json:"transactionHash"`
	TransactionIndex *hexutil.Uint64 `json:"transactionIndex"`
	LogIndex         *hexutil.Uint64 `json:"logIndex"`
	Removed          bool            `json:"removed"`
}

// errRangeChanged is about a reorg, or a node that has not the blocks, while events were read.
var errRangeChanged = errors.New("the blocks changed while their events were read")

// searched is what a node answered about a range of blocks up to through.
type searched struct {
	through block.Block
	// events are movements by Transfer events, coins those of the native coin.
	events, coins []transaction.Found
}

// Movements implements transaction.ChainReader.
//
// Events are read between two questions for the last block of the range: when its hash has changed, the answer is not
// used. A node whose newest block is before the range is passed over: it would answer with no events.
//
// Where several nodes have to agree, they have to on the last block and on every event: one that a single node leaves
// out, adds or changes stops the search. Movements of the native coin that too few of them tell are left out, and are
// part of an adjustment: a node that isn't an archive tells none.
func (r *Reader) Movements(ctx context.Context, chain uint64, holders []common.Address,
	blocks transaction.Range) (reading transaction.Reading, err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Movements", spanOptions(chain, 0,
		attribute.Int("holders", len(holders)), attribute.Int64("from", int64(min(blocks.From, math.MaxInt64))))...)
	defer span.End()
	group, err := r.agreedSearch(ctx, chain, blocks,
		func(ctx context.Context, n *node, blocks transaction.Range) (searched, error) {
			return r.movements(ctx, n, holders, blocks)
		})
	if err != nil {
		return transaction.Reading{}, err
	}
	found := slices.Concat(group[0].value.events, coinsOf(group, r.quorum(chain)))
	return transaction.Reading{Through: group[0].value.through, Found: found}, nil
}

// Transfers implements history.BalanceReader, with the events that Movements finds. It is an error when there are more
// than maxPastLogs.
func (r *Reader) Transfers(ctx context.Context, chain uint64, holders []common.Address,
	from, to uint64) ([]history.Transfer, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Transfers", spanOptions(chain, 0,
		attribute.Int("holders", len(holders)), attribute.Int64("from", int64(min(from, math.MaxInt64))))...)
	defer span.End()
	var out []history.Transfer
	for from <= to {
		group, err := r.agreedSearch(ctx, chain, transaction.Range{From: from, To: to},
			func(ctx context.Context, n *node, blocks transaction.Range) (searched, error) {
				found, _, err := r.events(ctx, n, holders, blocks)
				return found, err
			})
		if err != nil {
			return nil, err
		}
		for _, f := range group[0].value.events {
			if f.Direction != transaction.Self {
				out = append(out, history.Transfer{Holder: f.Holder, Contract: f.Contract, Amount: f.Amount,
					Out: f.Direction == transaction.Out, At: f.At.Time})
			}
		}
		if len(out) > maxPastLogs {
			return nil, fmt.Errorf("more than %d events name the holders", maxPastLogs)
		}
		from = group[0].value.through.Number + 1
	}
	return out, nil
}

// agreedSearch returns the answers of as many nodes as have to agree, which are alike, about blocks, or the first of
// them.
func (r *Reader) agreedSearch(ctx context.Context, chain uint64, blocks transaction.Range,
	search func(context.Context, *node, transaction.Range) (searched, error)) ([]answer[searched], error) {
	for {
		answers, err := askQuorum(ctx, r, chain, r.inOrder(r.nodes[chain]), scanHedgeDelay,
			func(answers []answer[searched]) bool { return len(alike(answers)) >= r.quorum(chain) },
			func(ctx context.Context, n *node) (searched, error) { return search(ctx, n, blocks) })
		if err != nil {
			return nil, err
		}
		if group := alike(answers); len(group) >= r.quorum(chain) {
			return group, nil
		}
		shortest := blocks.To
		for _, a := range answers {
			shortest = min(shortest, a.value.through.Number)
		}
		if shortest == blocks.To || shortest < blocks.From {
			return nil, r.disagreement(ctx, chain,
				fmt.Sprintf("the events of blocks %d to %d", blocks.From, blocks.To), says(answers))
		}
		blocks.To = shortest // of which every node can be asked
	}
}

// alike returns the most answers that have the same last block and the same events.
func alike(answers []answer[searched]) (group []answer[searched]) {
	for _, a := range answers {
		var same []answer[searched]
		for _, b := range answers {
			if a.value.through == b.value.through && slices.Equal(a.value.events, b.value.events) {
				same = append(same, b)
			}
		}
		if len(same) > len(group) {
			group = same
		}
	}
	return group
}

// coinsOf returns the movements of the native coin that as many of the answers have.
func coinsOf(group []answer[searched], quorum int) (out []transaction.Found) {
	count := map[transaction.Found]int{}
	for _, a := range group {
		for _, f := range a.value.coins {
			if count[f]++; count[f] == quorum {
				out = append(out, f)
			}
		}
	}
	return out
}

// byPlace orders movements as they are on the chain.
func byPlace(a, b transaction.Found) int {
	return cmp.Or(cmp.Compare(a.At.Number, b.At.Number), cmp.Compare(a.LogIndex, b.LogIndex),
		bytes.Compare(a.Holder[:], b.Holder[:]))
}

// movements returns what a node tells of blocks, or of the first of them.
func (r *Reader) movements(ctx context.Context, n *node, holders []common.Address,
	blocks transaction.Range) (searched, error) {
	found, part, err := r.events(ctx, n, holders, blocks)
	if err != nil {
		return searched{}, err
	}
	found.coins, err = r.coinMovements(ctx, n, holders, part, found.through)
	return found, err
}

// events returns the movements by Transfer events of blocks, or of the part of them that it returns too.
func (r *Reader) events(ctx context.Context, n *node, holders []common.Address,
	blocks transaction.Range) (searched, transaction.Range, error) {
	for {
		part := blocks
		size := n.logRange()
		if part.To-part.From >= size {
			part.To = part.From + size - 1
		}
		begun := time.Now()
		last, events, err := r.eventsOf(ctx, n, holders, part)
		asked := part.To - part.From + 1
		refused := err != nil &&
			(isRangeRefused(err) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil)
		switch {
		case asked > 1 && (refused || len(events) > maxLogs):
			n.setLogRange(asked / 2)
			continue
		case err != nil && asked == 1:
			return searched{}, part, fmt.Errorf("events of block %d: %w", part.From, err)
		case err != nil:
			return searched{}, part, fmt.Errorf("events of blocks %d to %d: %w", part.From, part.To, err)
		case time.Since(begun) < quickLogs:
			n.setLogRange(min(maxLogBlocks, 2*size))
		}
		found, err := transfersIn(events, holders, part)
		if err == nil {
			err = r.timeBlocks(ctx, n, found)
		}
		if err != nil {
			return searched{}, part, err
		}
		slices.SortFunc(found, byPlace)
		return searched{through: last, events: found}, part, nil
	}
}

// eventsOf returns the Transfer events from and to the holders in blocks, and the last of the blocks.
func (r *Reader) eventsOf(ctx context.Context, n *node, holders []common.Address,
	blocks transaction.Range) (block.Block, []event, error) {
	last, failures := n.numbered(ctx, callTimeout, []uint64{blocks.To})
	if failures[0] != nil {
		return block.Block{}, nil, failures[0]
	}
	topics := make([]common.Hash, len(holders))
	for i, h := range holders {
		topics[i] = common.BytesToHash(h[:])
	}
	filter := func(more ...any) rpc.BatchElem {
		return rpc.BatchElem{Method: "eth_getLogs", Result: new([]event), Args: []any{map[string]any{
			"fromBlock": hexutil.EncodeUint64(blocks.From), "toBlock": hexutil.EncodeUint64(blocks.To),
			"topics": append([]any{transferTopic}, more...)}}}
	}
	// Each alone: a range that is too long for the node must not make it a node that takes no batches.
	var all []event
	for _, c := range []rpc.BatchElem{filter(topics), filter(nil, topics)} {
		if err := n.callAlone(ctx, logsTimeout, c); err != nil {
			return block.Block{}, nil, err
		}
		all = append(all, *c.Result.(*[]event)...)
	}
	again, failures := n.numbered(ctx, callTimeout, []uint64{blocks.To})
	if failures[0] != nil {
		return block.Block{}, nil, failures[0]
	}
	if again[0] != last[0] {
		return block.Block{}, nil, errRangeChanged
	}
	return last[0], all, nil
}

// transfersIn returns the movements of the holders in events, without the times of their blocks. It is an error when
// the events contradict each other or what was asked for; those that are not of ERC-20 are left out.
func transfersIn(events []event, holders []common.Address, blocks transaction.Range) ([]transaction.Found, error) {
	type place struct{ block, log uint64 }
	hashes, seen := map[uint64]common.Hash{}, map[place]bool{}
	var out []transaction.Found
	for _, e := range events {
		if len(e.Topics) != 3 || len(e.Data) != 32 || e.Removed {
			continue // ERC-721, or another contract's event
		}
		if e.Address == nil || e.BlockNumber == nil || e.BlockHash == nil || e.TransactionHash == nil ||
			e.TransactionIndex == nil || e.LogIndex == nil || *e.TransactionIndex >= transaction.AdjustmentIndex ||
			*e.LogIndex > math.MaxInt32 {
			return nil, errors.New("the node answers with an event that lacks its place")
		}
		number := uint64(*e.BlockNumber)
		known, isKnown := hashes[number]
		if number < blocks.From || number > blocks.To || e.Topics[0] != transferTopic ||
			isKnown && known != *e.BlockHash {
			return nil, fmt.Errorf("the node answers with an event of block %d that was not asked for", number)
		}
		hashes[number] = *e.BlockHash
		at := place{number, uint64(*e.LogIndex)}
		if seen[at] {
			continue // of a transfer between two of the holders, or to the holder itself
		}
		seen[at] = true
		from, to := common.BytesToAddress(e.Topics[1][:]), common.BytesToAddress(e.Topics[2][:])
		f := transaction.Found{Contract: *e.Address, TransactionIndex: int32(*e.TransactionIndex),
			LogIndex: int32(*e.LogIndex), Kind: transaction.Transfer, Amount: *new(uint256.Int).SetBytes32(e.Data),
			Hash: *e.TransactionHash, At: block.Block{Number: number, Hash: *e.BlockHash}}
		out = append(out, legs(f, holders, from, to)...)
	}
	return out, nil
}

// legs returns a transfer as those of the holders see it that it concerns; none when it moves nothing.
func legs(f transaction.Found, holders []common.Address, from, to common.Address) (out []transaction.Found) {
	if f.Amount.IsZero() {
		return nil // anybody may make those with anybody's address
	}
	if slices.Contains(holders, from) {
		f.Holder, f.Counterparty, f.Direction = from, to, transaction.Out
		if from == to {
			f.Direction = transaction.Self
		}
		out = append(out, f)
	}
	if from != to && slices.Contains(holders, to) {
		f.Holder, f.Counterparty, f.Direction = to, from, transaction.In
		out = append(out, f)
	}
	return out
}

// timeBlocks sets the times of the blocks in found. It is an error when one of them has another hash by now.
func (r *Reader) timeBlocks(ctx context.Context, n *node, found []transaction.Found) error {
	var numbers []uint64
	for _, f := range found {
		numbers = append(numbers, f.At.Number)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for some := range slices.Chunk(numbers, 500) {
		blocks, failures := n.numbered(ctx, callTimeout, some)
		if err := errors.Join(failures...); err != nil {
			return err
		}
		for i, f := range found {
			if j, ok := slices.BinarySearch(some, f.At.Number); ok {
				if blocks[j].Hash != f.At.Hash {
					return errRangeChanged
				}
				found[i].At = blocks[j]
			}
		}
	}
	return nil
}

// BlocksAt implements transaction.ChainReader. A block on which too few nodes agree that have one is an error; one
// that too few have is none.
func (r *Reader) BlocksAt(ctx context.Context, chain uint64, numbers []uint64) ([]block.Block, error) {
	same := func(b block.Block) block.Block { return b }
	answers, err := askQuorum(ctx, r, chain, r.inOrder(r.nodes[chain]), scanHedgeDelay,
		isSettled(r.quorum(chain), same),
		func(ctx context.Context, n *node) ([]block.Block, error) { return n.blocksAt(ctx, numbers) })
	if err != nil {
		return nil, err
	}
	return r.settleBlocks(ctx, chain, numbers, answers, r.quorum(chain))
}

// settleBlocks returns the blocks that need of the answers have.
func (r *Reader) settleBlocks(ctx context.Context, chain uint64, numbers []uint64, answers []answer[[]block.Block],
	need int) ([]block.Block, error) {
	blocks, open := settle(answers, need, func(b block.Block) block.Block { return b })
	for i, isOpen := range open {
		if isOpen && !slices.ContainsFunc(answers, func(a answer[[]block.Block]) bool {
			return a.value[i] == block.Block{}
		}) {
			return nil, r.disagreement(ctx, chain, fmt.Sprintf("block %d", numbers[i]), says(answers))
		}
	}
	return blocks, nil
}

// logRange is of how many blocks the node is asked for events at a time.
func (n *node) logRange() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.logBlocks == 0 {
		n.logBlocks = firstLogBlocks
	}
	return n.logBlocks
}

func (n *node) setLogRange(blocks uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logBlocks = max(1, blocks)
}
