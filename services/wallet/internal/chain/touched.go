package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/services/wallet/internal/newblocks"
)

// maxFilterContracts is how many contracts a node is asked for by their addresses. Beyond, it is asked for the events
// of all.
const maxFilterContracts = 500

// fullBlock is what is used of a block and its transactions.
type fullBlock struct {
	header
	Parent       *common.Hash `json:"parentHash"`
	Transactions []sent       `json:"transactions"`
}

// Touched implements newblocks.Reader. A node whose newest block is no later than the last that was read has nothing
// new, whatever others have.
func (r *Reader) Touched(ctx context.Context, chain, after uint64, contracts []common.Address) (newblocks.Touched,
	error) {
	return tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), readHedgeDelay,
		func(ctx context.Context, n *node) (newblocks.Touched, error) {
			newest, err := r.newest(ctx, n)
			t := newblocks.Touched{Newest: newest}
			if err != nil || after == 0 || newest.Number <= after {
				return t, err
			}
			t.First = max(after+1, newest.Number-min(newest.Number, newblocks.MaxBlocks-1))
			if err := n.touchedByTransactions(ctx, &t); err != nil {
				return t, err
			}
			return t, n.touchedByTransfers(ctx, &t, contracts)
		})
}

// touchedByTransactions adds the senders and receivers of all transactions. It is an error when the blocks are not the
// ones before the newest.
func (n *node) touchedByTransactions(ctx context.Context, t *newblocks.Touched) error {
	blocks := make([]*fullBlock, t.Newest.Number-t.First+1)
	calls := make([]rpc.BatchElem, len(blocks))
	for i := range blocks {
		calls[i] = rpc.BatchElem{Method: "eth_getBlockByNumber", Result: &blocks[i],
			Args: []any{hexutil.EncodeUint64(t.First + uint64(i)), true}}
	}
	n.callAll(ctx, callTimeout, calls)
	t.Accounts = make([][]common.Address, len(blocks))
	next := t.Newest.Hash
	for i := len(blocks) - 1; i >= 0; i-- {
		number := t.First + uint64(i)
		switch b := blocks[i]; {
		case calls[i].Error != nil:
			return fmt.Errorf("transactions of block %d: %w", number, calls[i].Error)
		case b == nil || b.Hash == nil || b.Parent == nil || *b.Hash != next:
			return errRangeChanged
		default:
			next = *b.Parent
			for _, sent := range b.Transactions {
				if sent.From != nil {
					t.Accounts[i] = append(t.Accounts[i], *sent.From)
				}
				if sent.To != nil && sent.Value != nil && sent.Value.ToInt().Sign() > 0 {
					t.Accounts[i] = append(t.Accounts[i], *sent.To)
				}
			}
		}
	}
	t.Parent = next
	return nil
}

// touchedByTransfers adds the senders and receivers of tokens of these contracts.
func (n *node) touchedByTransfers(ctx context.Context, t *newblocks.Touched, contracts []common.Address) error {
	if len(contracts) == 0 {
		return nil
	}
	events, err := n.transfersOf(ctx, t.First, t.Newest.Number, contracts)
	if err != nil {
		return err
	}
	listed := make(map[common.Address]bool, len(contracts))
	for _, c := range contracts {
		listed[c] = true
	}
	for _, e := range events {
		if len(e.Topics) != 3 || len(e.Data) != 32 || e.Removed || e.Address == nil || !listed[*e.Address] ||
			e.Topics[0] != transferTopic || !slices.ContainsFunc(e.Data, func(b byte) bool { return b != 0 }) {
			continue
		}
		if e.BlockNumber == nil || uint64(*e.BlockNumber) < t.First || uint64(*e.BlockNumber) > t.Newest.Number {
			return errors.New("the node answers with an event of a block that was not asked for")
		}
		i := uint64(*e.BlockNumber) - t.First
		t.Accounts[i] = append(t.Accounts[i], common.BytesToAddress(e.Topics[1][:]),
			common.BytesToAddress(e.Topics[2][:]))
	}
	return nil
}

// transfersOf returns the Transfer events of contracts in blocks, or of all contracts when these are many. It asks for
// half of the blocks after each refusal.
func (n *node) transfersOf(ctx context.Context, from, to uint64, contracts []common.Address) ([]event, error) {
	filter := map[string]any{"topics": []any{transferTopic}}
	if len(contracts) <= maxFilterContracts {
		filter["address"] = contracts
	}
	var all []event
	for size := to - from + 1; from <= to; {
		last := min(to, from+size-1)
		filter["fromBlock"], filter["toBlock"] = hexutil.EncodeUint64(from), hexutil.EncodeUint64(last)
		var events []event
		err := n.callAlone(ctx, logsTimeout,
			rpc.BatchElem{Method: "eth_getLogs", Args: []any{filter}, Result: &events})
		switch {
		case err != nil && isRangeRefused(err) && last > from:
			size = (last - from + 1) / 2
			continue
		case err != nil:
			return nil, fmt.Errorf("events of blocks %d to %d: %w", from, last, err)
		}
		all = append(all, events...)
		from = last + 1
	}
	return all, nil
}
