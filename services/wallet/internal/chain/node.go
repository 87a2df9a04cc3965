package chain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

const (
	// chainCheckTimeout bounds the call for a node's chain id, so that there is
	// time for the next node.
	chainCheckTimeout = 2 * time.Second
	// maxOldBlocks is how many blocks are remembered of a node.
	maxOldBlocks = 4096
	// maxRetryAfter is how long a node is not called at most because it asked for that.
	maxRetryAfter = 10 * time.Minute
)

// node is one JSON-RPC endpoint of a chain.
type node struct {
	chain  uint64
	number int    // its place in the settings, from 1
	url    string // with its API key; not for logs
	// name is the host, for logs.
	name string
	// provider is what of the host callers may see.
	provider   string
	connection connection

	// checking is held by the one that checks the node; lastCheck is when the last
	// check began and how it ended.
	checking  chan struct{}
	lastCheck struct {
		begun time.Time
		err   error
	}

	mu             sync.Mutex
	chainChecked   bool
	cooldownUntil  time.Time
	singleUntil    time.Time // the node gets no batches before
	batchCalls     int       // the size of batches
	logBlocks      uint64    // of how many blocks it is asked for events; 0 before the first time
	byNumber       bool      // blocks are named by their numbers: it doesn't take hashes
	retryAfter     time.Time // the node asked not to be called before
	lastRetryAfter time.Time // the same, of the last answer, whatever it was
	// noCodeAt has, by contract, the newest block at which it had no code.
	noCodeAt map[common.Address]uint64
	// hasCodeSince has, by contract, the oldest block at which it had code.
	hasCodeSince map[common.Address]uint64
	// oldBlocks are final blocks by number, for the next search; at most
	// maxOldBlocks.
	oldBlocks map[uint64]block.Block
	// health is what is known of the node, without its provider and cooldown.
	health chainlist.NodeStatus
}

func newNode(chain uint64, number int, rawURL string, now func() time.Time) (*node, error) {
	u, err := url.Parse(rawURL)
	if err != nil || !chainurl.IsNode(rawURL) {
		return nil, errors.New("not an http, https, ws or wss URL")
	}
	n := &node{chain: chain, number: number, url: rawURL, name: u.Host, provider: providerOf(u.Hostname()),
		batchCalls: firstBatchCalls, noCodeAt: map[common.Address]uint64{}, hasCodeSince: map[common.Address]uint64{},
		oldBlocks: map[uint64]block.Block{}, checking: make(chan struct{}, 1)}
	if u.Scheme == "ws" || u.Scheme == "wss" {
		n.connection = newSocket(rawURL)
		return n, nil
	}
	if n.connection, err = newHTTP(rawURL, u, n.noteRetryAfter, now); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", u.Host, redact.Error(err, rawURL))
	}
	return n, nil
}

// call makes a call, within callTimeout.
func (n *node) call(ctx context.Context, result any, method string, args ...any) error {
	defer ask(ctx)()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return n.connection.call(ctx, result, method, args...)
}

// callTogether makes calls in one batch, within callTimeout. It sets the result or the error of each.
func (n *node) callTogether(ctx context.Context, calls []rpc.BatchElem) error {
	defer ask(ctx)()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return n.connection.batch(ctx, calls)
}

// checkChain returns an error unless the node is of the configured chain. It asks
// before the node's first use and after each cooldown.
func (n *node) checkChain(ctx context.Context) error {
	n.mu.Lock()
	done := n.chainChecked
	n.mu.Unlock()
	if done {
		return nil
	}
	if err := n.askChain(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	n.chainChecked = true
	n.mu.Unlock()
	return nil
}

// askChain returns an error unless the node says that it is of the configured chain.
func (n *node) askChain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, chainCheckTimeout)
	defer cancel()
	var id hexutil.Big
	if err := n.call(ctx, &id, "eth_chainId"); err != nil {
		return fmt.Errorf("chain id: %w", err)
	}
	if is := id.ToInt(); !is.IsUint64() || is.Uint64() != n.chain {
		return &wrongChainError{is.String(), n.chain}
	}
	return nil
}

// newest returns the newest block.
func (n *node) newest(ctx context.Context) (block.Block, error) {
	var h *header
	if err := n.call(ctx, &h, "eth_getBlockByNumber", "latest", false); err != nil {
		return block.Block{}, err
	}
	return h.block()
}

// numbered returns the blocks of these numbers, and the error of each; errNoState
// for a block that the node doesn't have.
func (n *node) numbered(ctx context.Context, timeout time.Duration, numbers []uint64) ([]block.Block, []error) {
	headers, calls := make([]*header, len(numbers)), make([]rpc.BatchElem, len(numbers))
	for i, number := range numbers {
		calls[i] = rpc.BatchElem{Method: "eth_getBlockByNumber", Args: []any{hexutil.EncodeUint64(number), false},
			Result: &headers[i]}
	}
	n.callAll(ctx, timeout, calls)
	n.askAgain(ctx, timeout, calls, func(i int) bool { return calls[i].Error == nil && headers[i] == nil })
	blocks, failures := make([]block.Block, len(numbers)), make([]error, len(numbers))
	for i, number := range numbers {
		err := calls[i].Error
		if err == nil {
			blocks[i], err = headers[i].block()
		}
		switch {
		case errors.Is(err, errNoBlock) || isNoState(err):
			err = fmt.Errorf("%w of block %d: %w", errNoState, number, redact.Error(err, n.url))
		case err == nil && blocks[i].Number != number:
			err = fmt.Errorf("asked for block %d, the node gives %d", number, blocks[i].Number)
		}
		failures[i] = err
	}
	return blocks, failures
}

// askAgain makes those of the calls again that missing reports, a bounded number of
// times: behind a balancer another node may have the block.
func (n *node) askAgain(ctx context.Context, timeout time.Duration, calls []rpc.BatchElem, missing func(i int) bool) {
	first := true
	whileUnknown(ctx, func() bool {
		var open []rpc.BatchElem
		var places []int
		for i := range calls {
			if missing(i) {
				open, places = append(open, calls[i]), append(places, i)
			}
		}
		if len(open) > 0 && !first {
			n.callAll(ctx, timeout, open)
			for j, i := range places {
				calls[i].Error = open[j].Error
			}
		}
		first = false
		return len(open) > 0
	})
}

// maxBlockTime, in Unix seconds, is later than any block's time, and far below
// where time.Time overflows.
const maxBlockTime = 1 << 40

// header is what is used of a block. Its hash is the one that the node gives, not
// one computed from the header, since the headers of some chains, such as
// Avalanche, have fields of their own.
type header struct {
	Number *hexutil.Uint64 `json:"number"`
	Hash   *common.Hash    `json:"hash"`
	Time   *hexutil.Uint64 `json:"timestamp"`
}

// block returns the block of the header, which is nil if there is no such block.
func (h *header) block() (block.Block, error) {
	switch {
	case h == nil:
		return block.Block{}, errNoBlock
	case h.Number == nil || h.Hash == nil || h.Time == nil:
		return block.Block{}, errors.New("the block has no number, hash or timestamp")
	case *h.Number > math.MaxInt64 || *h.Time > maxBlockTime:
		return block.Block{}, errors.New("the block's number or timestamp is out of range")
	}
	at := time.Unix(int64(*h.Time), 0).UTC()
	return block.Block{Number: uint64(*h.Number), Hash: *h.Hash, Time: at}, nil
}

// startCooldown has the node tried after all others until t. Its chain is checked
// again before its next use, since a different node may answer then.
func (n *node) startCooldown(t time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cooldownUntil, n.chainChecked = t, false
	clear(n.oldBlocks)
}

func (n *node) inCooldown(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return now.Before(n.cooldownUntil)
}

// knownWithoutCode reports whether a contract is known to have had no code at a
// block.
func (n *node) knownWithoutCode(contract common.Address, block uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	last, known := n.noCodeAt[contract]
	return known && block <= last
}

func (n *node) rememberWithoutCode(contract common.Address, block uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noCodeAt[contract] = max(n.noCodeAt[contract], block)
}

// isWithoutCodeYet is isWithoutCode of a contract that is not expected to go: a block at which it had code answers for
// all later ones.
func (n *node) isWithoutCodeYet(ctx context.Context, timeout time.Duration, b block.Block,
	contract common.Address) (bool, error) {
	n.mu.Lock()
	first, known := n.hasCodeSince[contract]
	n.mu.Unlock()
	if known && b.Number >= first {
		return false, nil
	}
	without, err := n.isWithoutCode(ctx, timeout, b, contract)
	if err != nil || without {
		return without, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if first, known := n.hasCodeSince[contract]; !known || b.Number < first {
		n.hasCodeSince[contract] = b.Number
	}
	return false, nil
}

// rememberBlock keeps a final block for later searches.
func (n *node) rememberBlock(b block.Block) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.oldBlocks[b.Number]; !known && len(n.oldBlocks) >= maxOldBlocks {
		clear(n.oldBlocks)
	}
	n.oldBlocks[b.Number] = b
}

// blocksBelow returns the remembered blocks below head, by number.
func (n *node) blocksBelow(head block.Block) []block.Block {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []block.Block
	for _, number := range slices.Sorted(maps.Keys(n.oldBlocks)) {
		if number < head.Number {
			out = append(out, n.oldBlocks[number])
		}
	}
	return out
}

// noteRetryAfter keeps until when an answer asked not to be called.
func (n *node) noteRetryAfter(until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastRetryAfter = until
}

// obeyRetryAfter has the node not called until it asked, by Retry-After or in its error,
// and at most maxRetryAfter long; it returns that time, or the zero time.
func (n *node) obeyRetryAfter(err error, now time.Time) time.Time {
	until := now.Add(backoffOf(err))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lastRetryAfter.After(until) {
		until = n.lastRetryAfter
	}
	if !until.After(now) {
		return time.Time{}
	}
	if latest := now.Add(maxRetryAfter); until.After(latest) {
		until = latest
	}
	n.retryAfter = until
	return until
}

// checkRetryAfter returns an error before the time that the node asked for.
func (n *node) checkRetryAfter(now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Before(n.retryAfter) {
		return &retryAfterError{n.retryAfter}
	}
	return nil
}

// backoffOf is how long an error of JSON-RPC asks to wait, as some providers say:
// {"data":{"rate":{"backoff_seconds":30}}}.
func backoffOf(err error) time.Duration {
	var detailed rpc.DataError
	if !errors.As(err, &detailed) {
		return 0
	}
	data, _ := detailed.ErrorData().(map[string]any)
	rate, _ := data["rate"].(map[string]any)
	seconds, _ := rate["backoff_seconds"].(float64)
	return time.Duration(min(max(0, seconds), maxRetryAfter.Seconds()) * float64(time.Second))
}
