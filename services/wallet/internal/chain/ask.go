package chain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/sync"
)

// askAll asks a node for balances at a block, in chunks that each have the time of three calls.
func (r *Reader) askAll(ctx context.Context, n *node, b sync.Block, asked []question) ([]answer, error) {
	answers := make([]answer, 0, len(asked))
	for chunk := range slices.Chunk(asked, r.chunk) {
		limited, cancel := context.WithTimeout(ctx, 3*callTimeout)
		some, err := r.ask(limited, n, b, chunk)
		cancel()
		if err != nil {
			return nil, err
		}
		answers = append(answers, some...)
	}
	return answers, nil
}

// readable is an error when none of the balances asked for could be read.
func readable(answers []answer, b sync.Block) error {
	if len(answers) > 0 && !slices.ContainsFunc(answers, func(a answer) bool { return a.amount != nil }) {
		return fmt.Errorf("no balance could be read at block %d", b.Number)
	}
	return nil
}

// ask reads the balances of a chunk, halving it while the node refuses. A
// single call that is refused is one balance unread.
func (r *Reader) ask(ctx context.Context, n *node, b sync.Block, asked []question) ([]answer, error) {
	data, err := r.codec.pack(asked)
	if err != nil {
		return nil, err
	}
	reply, err := n.client.CallContractAtHash(ctx, ethereum.CallMsg{To: &r.codec.address, Data: data}, b.Hash)
	if err == nil && len(reply) == 0 {
		return nil, fmt.Errorf("%w at block %d", errNoMulticall, b.Number)
	}
	if err == nil {
		return r.codec.unpack(reply, len(asked))
	}
	if noState(err) {
		return nil, fmt.Errorf("%w of block %d: %w", errNoState, b.Number, redact.Error(err, n.url))
	}
	if !refused(err) {
		return nil, fmt.Errorf("aggregate3 at block %d: %w", b.Number, err)
	}
	if len(asked) == 1 {
		return make([]answer, 1), nil
	}
	half := len(asked) / 2
	first, err := r.ask(ctx, n, b, asked[:half])
	if err != nil {
		return nil, err
	}
	second, err := r.ask(ctx, n, b, asked[half:])
	return append(first, second...), err
}

// perHolder puts what was answered to questions into the order of holders.
func perHolder(answers []answer, holders, tokens int) [][]*uint256.Int {
	if len(answers) != holders*tokens {
		return nil
	}
	out := make([][]*uint256.Int, holders)
	for h := range out {
		out[h] = make([]*uint256.Int, tokens)
		for t := range out[h] {
			out[h][t] = answers[h*tokens+t].amount
		}
	}
	return out
}

// tooOften are the JSON-RPC codes of nodes that are asked too often: EIP-1474's
// own and those that large providers use instead.
func tooOften() []int { return []int{-32005, 429, -32007, -32016, -32029, -32097} }

// unknownBlock is how nodes say that they don't know a block by its hash.
var unknownBlock = regexp.MustCompile(`(?i)(header|block).* not found|unknown block`)

// refused reports whether the node answered and would not do it (too much
// gas, too large), rather than failed to answer, was asked too often or doesn't
// know the block.
func refused(err error) bool {
	if unknownBlock.MatchString(redact.Error(err).Error()) {
		return false
	}
	var answer rpc.Error
	var status rpc.HTTPError
	return errors.As(err, &answer) && !slices.Contains(tooOften(), answer.ErrorCode()) ||
		errors.As(err, &status) && status.StatusCode == http.StatusRequestEntityTooLarge
}
