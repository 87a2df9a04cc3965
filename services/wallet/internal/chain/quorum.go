package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// forkDepth is how many blocks before the newest are tried when nodes don't agree on that: the newest blocks of a
// chain may be other ones at each node for a moment.
const forkDepth = 3

// errDisagrees is about a node that says something else than as many others as have to agree.
var errDisagrees = errors.New("the node contradicts the others")

// quorum is how many nodes of a chain have to say the same.
func (r *Reader) quorum(chain uint64) int { return max(1, r.quorums[chain]) }

// settle compares what nodes answered, place by place. values[i] is what at least quorum nodes answered; open[i] means
// that too few agree.
func settle[T any, K comparable](answers []answer[[]T], quorum int, key func(T) K) (values []T, open []bool) {
	places := len(answers[0].value)
	values, open = make([]T, places), make([]bool, places)
	for i := range places {
		open[i] = true
		for a := range answers {
			same := 1
			for _, other := range answers[:a] {
				if key(other.value[i]) == key(answers[a].value[i]) {
					same++
				}
			}
			if same >= quorum {
				values[i], open[i] = answers[a].value[i], false
				break
			}
		}
	}
	return values, open
}

func isSettled[T any, K comparable](quorum int, key func(T) K) func([]answer[[]T]) bool {
	return func(answers []answer[[]T]) bool {
		if len(answers) < quorum {
			return false
		}
		_, open := settle(answers, quorum, key)
		return !slices.Contains(open, true)
	}
}

// askQuorum asks nodes of a chain until enough of them say the same, or none is left. It is an error when fewer answer
// than have to agree.
func askQuorum[T any](ctx context.Context, r *Reader, chain uint64, nodes []*node, hedgeDelay time.Duration,
	enough func([]answer[T]) bool, fn func(context.Context, *node) (T, error)) ([]answer[T], error) {
	if err := r.checkConfigured(chain); err != nil {
		return nil, err
	}
	quorum := r.quorum(chain)
	found, err := race[T]{Reader: r, chain: chain, nodes: nodes, width: quorum, hedgeDelay: hedgeDelay, ask: fn,
		enough: enough}.run(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(found.answers) < quorum:
		return nil, found.failed.tooFew(chain, quorum, len(found.answers))
	}
	return found.answers, nil
}

// tooFew is the error of a chain of which fewer nodes answer than have to agree.
func (f *failures) tooFew(chain uint64, quorum, answered int) error {
	if quorum == 1 {
		return f.unavailable(chain)
	}
	f.sort()
	return unavailable(fmt.Sprintf("%d nodes of chain eip155:%d have to agree, and %d can be read", quorum, chain,
		answered), f.all, max(nodeCooldown, f.retryAfter))
}

// disagreement is the error of a chain whose nodes contradict each other; about says in what. says has what each of
// them says.
func (r *Reader) disagreement(ctx context.Context, chain uint64, about string, says []answer[string]) error {
	var all []failure
	for _, s := range says {
		f := failure{node: s.node, reason: chainlist.Disagrees, text: s.value, err: errDisagrees}
		f.noteFailure(r.now(), f.reason)
		all = append(all, f)
	}
	r.log.WarnContext(ctx, "nodes disagree", "chain", chain, "about", about)
	return unavailable(fmt.Sprintf("%d nodes of chain eip155:%d have to agree on %s, and don't",
		r.quorum(chain), chain, about), all, nodeCooldown)
}

// noteDissent notes and logs that a node contradicts as many others as have to agree.
func (r *Reader) noteDissent(ctx context.Context, n *node, about string) {
	n.noteFailure(r.now(), chainlist.Disagrees)
	r.log.WarnContext(ctx, "node contradicts the others", "chain", n.chain, "node", n.name, "about", about)
}

// agreed is a block of a chain, with the nodes that have it, as many as have to agree or more.
type agreed struct {
	block.Block
	nodes []*node
}

// agreeOnBlock returns the newest block on whose number, hash and time as many nodes agree as have to. It is one below
// atLeast only when the nodes have no later one.
func (r *Reader) agreeOnBlock(ctx context.Context, chain, atLeast uint64) (agreed, error) {
	if err := r.checkConfigured(chain); err != nil {
		return agreed{}, err
	}
	all := r.inOrder(r.nodes[chain])
	ready := slices.DeleteFunc(slices.Clone(all), func(n *node) bool { return n.inCooldown(r.now()) })
	if quorum := r.quorum(chain); len(ready) >= quorum && len(ready) < len(all) {
		if at, err := r.agreeAmong(ctx, chain, atLeast, ready); err == nil || ctx.Err() != nil {
			return at, err
		}
	}
	return r.agreeAmong(ctx, chain, atLeast, all)
}

// everyone never reports enough answers, so that a race asks all nodes.
func everyone[T any]([]answer[T]) bool { return false }

func (r *Reader) agreeAmong(ctx context.Context, chain, atLeast uint64, nodes []*node) (agreed, error) {
	quorum := r.quorum(chain)
	found, err := race[block.Block]{Reader: r, chain: chain, nodes: nodes, width: len(nodes),
		hedgeDelay: readHedgeDelay,
		enough:     everyone[block.Block], ask: func(ctx context.Context, n *node) (block.Block, error) {
			ctx, cancel := context.WithTimeout(ctx, compareTimeout)
			defer cancel()
			return r.newest(ctx, n)
		}}.run(ctx)
	if err != nil {
		return agreed{}, err
	}
	heads := found.answers
	if len(heads) < quorum {
		return agreed{}, found.failed.tooFew(chain, quorum, len(heads))
	}
	numbers := candidates(heads, quorum, atLeast)
	known, err := r.blocksOf(ctx, chain, heads, numbers)
	if err != nil {
		return agreed{}, err
	}
	for i, number := range numbers[:len(known[0].value)] {
		at, ok := largest(known, i, quorum)
		if !ok {
			continue
		}
		for _, k := range known {
			if b := k.value[i]; b != (block.Block{}) && b != at.Block {
				r.noteDissent(ctx, k.node, fmt.Sprintf("block %d", number))
			}
		}
		return at, nil
	}
	var says []answer[string]
	for _, k := range known {
		text := fmt.Sprintf("has no block %d", numbers[0])
		if b := k.value[0]; b != (block.Block{}) {
			text = fmt.Sprintf("says that it is %#x of %s", b.Hash[:4], b.Time.Format(time.RFC3339))
		}
		says = append(says, answer[string]{k.node, text})
	}
	return agreed{}, r.disagreement(ctx, chain, fmt.Sprintf("block %d", numbers[0]), says)
}

// candidates are the blocks that nodes may agree on, the newest first. One that quorum of the nodes say to have comes
// first: a single node that says to be far ahead, or far behind, changes nothing where there are enough others.
func candidates(heads []answer[block.Block], quorum int, atLeast uint64) []uint64 {
	var numbers []uint64
	for _, h := range heads {
		numbers = append(numbers, h.value.Number)
	}
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(b, a) })
	newest := numbers[quorum-1]
	for depth := range uint64(forkDepth + 1) {
		numbers = append(numbers, newest-min(newest, depth))
	}
	numbers = slices.DeleteFunc(numbers, func(n uint64) bool { return n > newest || n < min(newest, atLeast) })
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(b, a) })
	return slices.Compact(numbers)
}

// blocksOf returns each node's blocks of these numbers; the zero block where it has none.
func (r *Reader) blocksOf(ctx context.Context, chain uint64, heads []answer[block.Block],
	numbers []uint64) ([]answer[[]block.Block], error) {
	head, nodes := map[*node]block.Block{}, []*node{}
	same := true
	for _, h := range heads {
		head[h.node], nodes = h.value, append(nodes, h.node)
		same = same && h.value == heads[0].value
	}
	if same {
		numbers = numbers[:1] // the head itself
	}
	found, err := race[[]block.Block]{Reader: r, chain: chain, nodes: nodes, width: len(nodes),
		hedgeDelay: readHedgeDelay,
		enough:     everyone[[]block.Block], ask: func(ctx context.Context, n *node) ([]block.Block, error) {
			blocks := make([]block.Block, len(numbers))
			var wanted []uint64
			for i, number := range numbers {
				switch {
				case number == head[n].Number:
					blocks[i] = head[n]
				case number < head[n].Number:
					wanted = append(wanted, number)
				}
			}
			if len(wanted) == 0 {
				return blocks, nil
			}
			got, failed := n.numbered(ctx, callTimeout, wanted)
			for j, number := range wanted {
				if failed[j] != nil && !errors.Is(failed[j], errNoState) {
					return nil, fmt.Errorf("block %d: %w", number, failed[j])
				}
				blocks[slices.Index(numbers, number)] = got[j]
			}
			return blocks, nil
		}}.run(ctx)
	if err != nil {
		return nil, err
	}
	if quorum := r.quorum(chain); len(found.answers) < quorum {
		return nil, found.failed.tooFew(chain, quorum, len(found.answers))
	}
	return found.answers, nil
}

// largest returns the block of a place that most nodes have, when they are as many as have to agree.
func largest(known []answer[[]block.Block], place, quorum int) (found agreed, ok bool) {
	for _, k := range known {
		b := k.value[place]
		if b == (block.Block{}) {
			continue
		}
		at := agreed{Block: b}
		for _, other := range known {
			if other.value[place] == b {
				at.nodes = append(at.nodes, other.node)
			}
		}
		if len(at.nodes) >= quorum && len(at.nodes) > len(found.nodes) {
			found, ok = at, true
		}
	}
	return found, ok
}

// nothingRead is the error of a reading without any balance.
func nothingRead(chain uint64, b block.Block) error {
	return errs.Unavailable("CHAIN_UNAVAILABLE", fmt.Sprintf("no balance of chain eip155:%d could be read at block %d",
		chain, b.Number)).After(nodeCooldown)
}
