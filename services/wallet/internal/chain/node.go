package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	gosync "sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/sync"
)

// checkTimeout bounds the question which chain a node is of.
const checkTimeout = 2 * time.Second

// node is one JSON-RPC endpoint of a chain.
type node struct {
	chain uint64
	url   string // with its API key; not for logs
	// name for logs: the host alone.
	name   string
	client *ethclient.Client

	mu      gosync.Mutex
	checked bool
	resting time.Time
	// absent has the newest block at which a contract was seen to have no code.
	absent map[common.Address]uint64
	// found are old blocks by number, for the next search; at most maxFound.
	found map[uint64]sync.Block
}

// maxFound bounds the blocks that are remembered of a node.
const maxFound = 4096

func newNode(chain uint64, rawURL string) (*node, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("not an http or https URL")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 8
	c, err := rpc.DialOptions(context.Background(), rawURL, rpc.WithHTTPClient(&http.Client{
		Timeout:   callTimeout,
		Transport: bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("a node may not redirect")
		},
	}))
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", u.Host, redact.Error(err, rawURL))
	}
	return &node{chain: chain, url: rawURL, name: u.Host, client: ethclient.NewClient(c),
		absent: map[common.Address]uint64{}, found: map[uint64]sync.Block{}}, nil
}

// check makes sure that the node is of the chain it is said to be of: at
// first, and again after each failure, since another may answer then.
func (n *node) check(ctx context.Context) error {
	n.mu.Lock()
	done := n.checked
	n.mu.Unlock()
	if done {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout) // so that there is time for the next
	defer cancel()
	id, err := n.client.ChainID(ctx)
	if err != nil {
		return fmt.Errorf("chain id: %w", err)
	}
	if !id.IsUint64() || id.Uint64() != n.chain {
		return fmt.Errorf("the node is of chain %s, not %d", id, n.chain)
	}
	n.mu.Lock()
	n.checked = true
	n.mu.Unlock()
	return nil
}

// newest reads the newest block.
func (n *node) newest(ctx context.Context) (sync.Block, error) { return n.block(ctx, "latest") }

// numbered reads the block of this number; errNoState when the node has none.
func (n *node) numbered(ctx context.Context, number uint64) (sync.Block, error) {
	b, err := n.block(ctx, hexutil.EncodeUint64(number))
	if errors.Is(err, errNoBlock) || noState(err) {
		return b, fmt.Errorf("%w of block %d: %w", errNoState, number, redact.Error(err, n.url))
	}
	if err == nil && b.Number != number {
		err = fmt.Errorf("asked for block %d, the node gives %d", number, b.Number)
	}
	return b, err
}

// maxTime is past any block's time, in seconds, and far from where times wrap
// round.
const maxTime = 1 << 40

// errNoBlock is a block that the node doesn't have.
var errNoBlock = errors.New("no such block")

// block reads a block. Its hash is the one that the node says, not one
// computed from the header: some chains (Avalanche's, for one) have header
// fields of their own.
func (n *node) block(ctx context.Context, which string) (sync.Block, error) {
	var head *struct {
		Number *hexutil.Uint64 `json:"number"`
		Hash   *common.Hash    `json:"hash"`
		Time   *hexutil.Uint64 `json:"timestamp"`
	}
	if err := n.client.Client().CallContext(ctx, &head, "eth_getBlockByNumber", which, false); err != nil {
		return sync.Block{}, err
	}
	if head == nil {
		return sync.Block{}, errNoBlock
	}
	if head.Number == nil || head.Hash == nil || head.Time == nil {
		return sync.Block{}, errors.New("without number, hash or timestamp")
	}
	if *head.Number > math.MaxInt64 || *head.Time > maxTime {
		return sync.Block{}, errors.New("out of any range")
	}
	return sync.Block{Number: uint64(*head.Number), Hash: *head.Hash, Time: time.Unix(int64(*head.Time), 0).UTC()}, nil
}

func (n *node) restUntil(t time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resting, n.checked = t, false
	clear(n.found) // another node may answer then
}

func (n *node) rests(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return now.Before(n.resting)
}

// codeless reports whether a contract is known to have had no code at a block.
func (n *node) codeless(contract common.Address, block uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	last, known := n.absent[contract]
	return known && block <= last
}

func (n *node) noteCodeless(contract common.Address, block uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.absent[contract] = max(n.absent[contract], block)
}

// noteFound remembers an old block.
func (n *node) noteFound(b sync.Block) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.found[b.Number]; !there && len(n.found) >= maxFound {
		clear(n.found)
	}
	n.found[b.Number] = b
}

// foundBelow are the blocks that are remembered, below head and by number.
func (n *node) foundBelow(head sync.Block) []sync.Block {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []sync.Block
	for _, number := range slices.Sorted(maps.Keys(n.found)) {
		if number < head.Number {
			out = append(out, n.found[number])
		}
	}
	return out
}

// bounded cuts replies at maxReply, so that a hostile node can't fill memory.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{Reader: io.LimitReader(resp.Body, maxReply), Closer: resp.Body}
	return resp, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}
