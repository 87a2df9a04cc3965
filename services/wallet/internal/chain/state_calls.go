package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/block"
)

const (
	// unknownBlockTries is how often a call is made again because the node doesn't know a block that it named, and
	// unknownBlockPause the time before each: behind a balancer, another one of its nodes may answer.
	unknownBlockTries = 6
	unknownBlockPause = 80 * time.Millisecond
)

// callAllAt makes calls about the state of blocks, as callAll does: the i-th of the block at[i], which it adds to the
// arguments.
//
// Blocks are named by their hashes (EIP-1898). A node that doesn't take those is called with numbers, and the blocks'
// hashes are checked afterwards: the calls of one that has changed fail with errUnknownBlock.
func (n *node) callAllAt(ctx context.Context, timeout time.Duration, at []block.Block, calls []rpc.BatchElem) {
	args := make([][]any, len(calls))
	for i := range calls {
		args[i] = calls[i].Args
	}
	if !n.wantsNumbers() {
		for i := range calls {
			calls[i].Args = append(slices.Clone(args[i]), rpc.BlockNumberOrHashWithHash(at[i].Hash, false))
		}
		n.callAll(ctx, timeout, calls)
		if !slices.ContainsFunc(calls, func(c rpc.BatchElem) bool { return kindOf(c.Error) == noBlockHashes }) {
			return
		}
		n.setWantsNumbers()
	}
	for i := range calls {
		calls[i].Args = append(slices.Clone(args[i]), hexutil.EncodeUint64(at[i].Number))
		calls[i].Error = nil
	}
	n.callAll(ctx, timeout, calls)
	n.checkUnchanged(ctx, timeout, at, calls)
}

// checkUnchanged fails the calls of blocks whose numbers have other hashes now.
func (n *node) checkUnchanged(ctx context.Context, timeout time.Duration, at []block.Block, calls []rpc.BatchElem) {
	var numbers []uint64
	for _, b := range at {
		numbers = append(numbers, b.Number)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	blocks, failures := n.numbered(ctx, timeout, numbers)
	for i := range calls {
		j, _ := slices.BinarySearch(numbers, at[i].Number)
		switch {
		case calls[i].Error != nil:
		case failures[j] != nil:
			calls[i].Error = failures[j]
		case blocks[j].Hash != at[i].Hash:
			calls[i].Error = fmt.Errorf("%w: block %d has changed", errUnknownBlock, at[i].Number)
		}
	}
}

func (n *node) wantsNumbers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byNumber
}

func (n *node) setWantsNumbers() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byNumber = true
}

// codeAt returns the code of a contract at a block.
func (n *node) codeAt(ctx context.Context, timeout time.Duration, b block.Block,
	contract common.Address) ([]byte, error) {
	var code hexutil.Bytes
	calls := []rpc.BatchElem{{Method: "eth_getCode", Args: []any{contract}, Result: &code}}
	n.callAllAt(ctx, timeout, []block.Block{b}, calls)
	return code, n.stateError(calls[0].Error, b)
}

// stateError returns the error of a call about a block's state: one of errNoState and errUnknownBlock without
// secrets, or err itself.
func (n *node) stateError(err error, b block.Block) error {
	switch kindOf(err) {
	case noState:
		return fmt.Errorf("%w of block %d: %w", errNoState, b.Number, redact.Error(err, n.url))
	case unknownBlock:
		return fmt.Errorf("%w: block %d: %w", errUnknownBlock, b.Number, redact.Error(err, n.url))
	}
	return err
}

// whileUnknown calls fn again as long as it reports that the node doesn't know a block, a bounded number of times.
func whileUnknown(ctx context.Context, fn func() (unknown bool)) {
	for range unknownBlockTries {
		if !fn() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(unknownBlockPause):
		}
	}
	fn()
}

// isUnknownBlock reports whether an error says that the node doesn't know a block.
func isUnknownBlock(err error) bool {
	return errors.Is(err, errUnknownBlock) || kindOf(err) == unknownBlock
}
