package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
)

// Nodes implements chainreset.Nodes.
func (r *Reader) Nodes(chain uint64) int { return len(r.nodes[chain]) }

// NeededToAgree implements chainreset.Nodes: as many as have to agree on a balance, and two where there are two.
func (r *Reader) NeededToAgree(chain uint64) int {
	return max(r.quorum(chain), min(2, len(r.nodes[chain])))
}

// Heads implements chainreset.Nodes.
func (r *Reader) Heads(ctx context.Context, chain uint64) ([]block.Block, error) {
	answers, err := askAll(ctx, r, chain, r.newest)
	if err != nil {
		return nil, err
	}
	heads := make([]block.Block, len(answers))
	for i, a := range answers {
		heads[i] = a.value
	}
	return heads, nil
}

// Histories implements chainreset.Nodes.
func (r *Reader) Histories(ctx context.Context, chain uint64, numbers []uint64) ([]chainreset.History, error) {
	answers, err := askAll(ctx, r, chain, func(ctx context.Context, n *node) (chainreset.History, error) {
		head, err := r.newest(ctx, n)
		if err != nil {
			return chainreset.History{}, err
		}
		blocks, err := n.blocksAt(ctx, numbers)
		return chainreset.History{Node: n.number, Head: head, Blocks: blocks}, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]chainreset.History, len(answers))
	for i, a := range answers {
		out[i] = a.value
	}
	return out, nil
}

// SureBlocksAt implements transaction.ChainReader: BlocksAt by two nodes at least where the chain has two.
func (r *Reader) SureBlocksAt(ctx context.Context, chain uint64, numbers []uint64) ([]block.Block, error) {
	answers, err := askAll(ctx, r, chain, func(ctx context.Context, n *node) ([]block.Block, error) {
		return n.blocksAt(ctx, numbers)
	})
	if err != nil {
		return nil, err
	}
	need := r.NeededToAgree(chain)
	if len(answers) < need {
		return nil, unavailable(fmt.Sprintf("%d nodes of chain eip155:%d have to agree that blocks were replaced, "+
			"and %d can be read", need, chain, len(answers)), nil, nodeCooldown)
	}
	return r.settleBlocks(ctx, chain, numbers, answers, need)
}

// blocksAt returns the node's blocks of these numbers, the zero block where it has none.
func (n *node) blocksAt(ctx context.Context, numbers []uint64) ([]block.Block, error) {
	blocks, failures := n.numbered(ctx, callTimeout, numbers)
	for i, err := range failures {
		switch {
		case errors.Is(err, errNoState):
			blocks[i] = block.Block{}
		case err != nil:
			return nil, err
		}
	}
	return blocks, nil
}

// Forget implements chainreset.Nodes: what was remembered of a chain's blocks is not used any more.
func (r *Reader) Forget(chain uint64) {
	for _, n := range r.nodes[chain] {
		n.mu.Lock()
		clear(n.oldBlocks)
		clear(n.noCodeAt)
		clear(n.hasCodeSince)
		n.mu.Unlock()
	}
}

// askAll asks all nodes of a chain, those in cooldown when there are no others, and returns what those answer that do
// within compareTimeout. It is an error when none does.
func askAll[T any](ctx context.Context, r *Reader, chain uint64,
	fn func(context.Context, *node) (T, error)) ([]answer[T], error) {
	if err := r.checkConfigured(chain); err != nil {
		return nil, err
	}
	nodes := slices.DeleteFunc(slices.Clone(r.nodes[chain]), func(n *node) bool { return n.inCooldown(r.now()) })
	if len(nodes) == 0 {
		nodes = r.nodes[chain]
	}
	found, err := race[T]{Reader: r, chain: chain, nodes: nodes, width: len(nodes), hedgeDelay: readHedgeDelay,
		enough: everyone[T], ask: func(ctx context.Context, n *node) (T, error) {
			ctx, cancel := context.WithTimeout(ctx, compareTimeout)
			defer cancel()
			return fn(ctx, n)
		}}.run(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(found.answers) == 0:
		return nil, found.failed.unavailable(chain)
	}
	return found.answers, nil
}
