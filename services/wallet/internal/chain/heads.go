package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// compareTimeout bounds the comparison of a node's head with those of the others.
const compareTimeout = 2 * time.Second

// errBehind is about a node whose newest block is older than what is known of the
// chain.
var errBehind = errors.New("the node is behind its chain")

// headChoice passes over the nodes of a chain that lag, in one reading.
//
// A node that stands still answers everything, with what was so hours ago. Its own
// answers don't show it; the heads of the other nodes do. They are asked only when
// the head is old enough to lag, and at most once in checkInterval.
type headChoice struct {
	reader  *Reader
	chain   uint64
	atLeast uint64 // a block that the chain is known to have had

	mu     sync.Mutex
	behind []laggard
}

type laggard struct {
	*node
	head block.Block
}

// check returns errBehind for a head that lags, and remembers the node.
func (c *headChoice) check(ctx context.Context, n *node, head block.Block) error {
	if len(c.reader.nodes[c.chain]) == 1 {
		return nil // there is none to prefer
	}
	var why error
	if head.Number < c.atLeast {
		why = fmt.Errorf("%w: its newest block is %d, and an earlier sync was at %d", errBehind, head.Number,
			c.atLeast)
	} else if other, number := c.newestOther(ctx, n, head); chainlist.Lags(head, other, c.reader.now()) {
		why = fmt.Errorf("%w: its newest block, %d, is of %s, and that of node %d, %d, is %s newer", errBehind,
			head.Number, head.Time.Format(time.RFC3339), number, other.Number,
			other.Time.Sub(head.Time).Round(time.Second))
	}
	if why != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.behind = append(c.behind, laggard{n, head})
	}
	return why
}

// newestOther returns the newest head among the other nodes of the chain, and the
// number of its node, when head is old enough to lag.
func (c *headChoice) newestOther(ctx context.Context, n *node, head block.Block) (newest block.Block, number int) {
	now := c.reader.now()
	if now.Sub(head.Time) <= chainlist.MaxHeadLag {
		return head, 0
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	newest = head
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, other := range c.reader.nodes[c.chain] {
		if other == n {
			continue
		}
		all.Go(func() {
			if c.reader.checkNode(ctx, other, now) != nil {
				return
			}
			found := other.status(now).Head
			mu.Lock()
			defer mu.Unlock()
			if found.Time.After(newest.Time) {
				newest, number = found, i+1
			}
		})
	}
	all.Wait()
	return newest, number
}

// laggards returns the nodes that were passed over, that with the newest head first.
func (c *headChoice) laggards() []*node {
	slices.SortStableFunc(c.behind, func(a, b laggard) int {
		return cmp.Or(b.head.Time.Compare(a.head.Time), cmp.Compare(b.head.Number, a.head.Number))
	})
	nodes := make([]*node, len(c.behind))
	for i, l := range c.behind {
		nodes[i] = l.node
	}
	return nodes
}
