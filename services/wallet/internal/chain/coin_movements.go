package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// maxCoinBlocks is in how many blocks of a range movements of the native coin are looked for, of all holders together.
const maxCoinBlocks = 512

// coinSearch finds the blocks of a range in which the native coin's balances of holders changed, by halving the
// ranges over which they differ. So a wallet that did nothing costs two questions, and one that did something some
// more for each block: reading every block would cost one for each block of the chain.
//
// It doesn't find a coin that came and went within one range. The balances differ then by the fee, at least where the
// holder sent it.
type coinSearch struct {
	n       *node
	changed map[uint64][]common.Address // by block
	blocks  map[uint64]block.Block
}

// span is the range (before, until] in which a holder's balance changes.
type span struct {
	holder        common.Address
	before, until uint64
	was, is       *uint256.Int
}

// coinMovements returns the movements of the native coin, and the fees, of the holders in blocks. It returns none when
// the node doesn't have the state of these blocks any more: they are part of an adjustment then.
func (r *Reader) coinMovements(ctx context.Context, n *node, holders []common.Address, blocks transaction.Range,
	last block.Block) ([]transaction.Found, error) {
	s := &coinSearch{n: n, changed: map[uint64][]common.Address{}, blocks: map[uint64]block.Block{last.Number: last}}
	spans := make([]span, len(holders))
	for i, h := range holders {
		spans[i] = span{holder: h, before: max(1, blocks.From) - 1, until: blocks.To}
	}
	if blocks.To <= spans[0].before {
		return nil, nil
	}
	err := s.find(ctx, spans)
	if errors.Is(err, errNoState) || isNoState(err) || isRefused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("balances of blocks %d to %d: %w", blocks.From, blocks.To, err)
	}
	return s.movements(ctx)
}

// find fills changed.
func (s *coinSearch) find(ctx context.Context, spans []span) error {
	before, err := s.balances(ctx, spans, func(p span) uint64 { return p.before })
	if err != nil {
		return err
	}
	until, err := s.balances(ctx, spans, func(p span) uint64 { return p.until })
	if err != nil {
		return err
	}
	for i := range spans {
		spans[i].was, spans[i].is = before[i], until[i]
	}
	found := 0
	for len(spans) > 0 {
		var open []span
		for _, p := range spans {
			switch {
			case p.was.Eq(p.is):
			case p.until == p.before+1:
				s.changed[p.until] = append(s.changed[p.until], p.holder)
				found++
			default:
				open = append(open, p)
			}
		}
		if found+len(open) > maxCoinBlocks {
			open = open[:max(0, maxCoinBlocks-found)]
		}
		spans = open
		middle := func(p span) uint64 { return p.before + (p.until-p.before)/2 }
		balances, err := s.balances(ctx, spans, middle)
		if err != nil {
			return err
		}
		halves := make([]span, 0, 2*len(spans))
		for i, p := range spans {
			at := middle(p)
			halves = append(halves, span{p.holder, p.before, at, p.was, balances[i]},
				span{p.holder, at, p.until, balances[i], p.is})
		}
		spans = halves
	}
	return nil
}

// balances returns the native coin's balance of each span's holder at a block of it.
func (s *coinSearch) balances(ctx context.Context, spans []span, at func(span) uint64) ([]*uint256.Int, error) {
	var unknown []uint64
	for _, p := range spans {
		number := at(p)
		if _, ok := s.blocks[number]; !ok {
			unknown = append(unknown, number)
		}
	}
	slices.Sort(unknown)
	unknown = slices.Compact(unknown)
	if len(unknown) > 0 {
		blocks, failures := s.n.numbered(ctx, callTimeout, unknown)
		if err := errors.Join(failures...); err != nil {
			return nil, err
		}
		for i, number := range unknown {
			s.blocks[number] = blocks[i]
		}
	}
	calls, named := make([]rpc.BatchElem, len(spans)), make([]block.Block, len(spans))
	for i, p := range spans {
		calls[i] = rpc.BatchElem{Method: "eth_getBalance", Args: []any{p.holder}, Result: new(hexutil.U256)}
		named[i] = s.blocks[at(p)]
	}
	s.n.callAllAt(ctx, callTimeout, named, calls)
	out := make([]*uint256.Int, len(spans))
	for i, c := range calls {
		if c.Error != nil {
			return nil, s.n.stateError(c.Error, named[i])
		}
		out[i] = (*uint256.Int)(c.Result.(*hexutil.U256))
	}
	return out, nil
}

// sent is what is used of a transaction of a block.
type sent struct {
	Hash  *common.Hash    `json:"hash"`
	From  *common.Address `json:"from"`
	To    *common.Address `json:"to"`
	Value *hexutil.Big    `json:"value"`
	Index *hexutil.Uint64 `json:"transactionIndex"`
}

// receipt is what is used of a transaction's receipt. L1Fee is that of the chains of the OP Stack, which is paid
// besides the gas.
type receipt struct {
	Status *hexutil.Uint64 `json:"status"`
	Gas    *hexutil.Big    `json:"gasUsed"`
	Price  *hexutil.Big    `json:"effectiveGasPrice"`
	L1Fee  *hexutil.Big    `json:"l1Fee"`
}

// movements reads the transactions of the changed blocks.
func (s *coinSearch) movements(ctx context.Context) ([]transaction.Found, error) {
	var out []transaction.Found
	for number, holders := range s.changed {
		b := s.blocks[number]
		if b.Number != number {
			return nil, fmt.Errorf("block %d was not read", number)
		}
		var full struct {
			Hash         *common.Hash `json:"hash"`
			Transactions []sent       `json:"transactions"`
		}
		calls := []rpc.BatchElem{{Method: "eth_getBlockByNumber", Args: []any{hexutil.EncodeUint64(number), true},
			Result: &full}}
		s.n.callAll(ctx, callTimeout, calls)
		if calls[0].Error != nil {
			return nil, fmt.Errorf("transactions of block %d: %w", number, calls[0].Error)
		}
		if full.Hash == nil || *full.Hash != b.Hash {
			return nil, errRangeChanged
		}
		var concern []sent
		for _, t := range full.Transactions {
			if t.Hash == nil || t.From == nil || t.Index == nil || *t.Index >= transaction.AdjustmentIndex {
				return nil, fmt.Errorf("the node answers with a transaction of block %d that lacks its place", number)
			}
			if slices.Contains(holders, *t.From) || t.To != nil && slices.Contains(holders, *t.To) {
				concern = append(concern, t)
			}
		}
		found, err := s.paid(ctx, b, holders, concern)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// paid returns the movements of the holders by transactions of a block.
func (s *coinSearch) paid(ctx context.Context, b block.Block, holders []common.Address,
	transactions []sent) ([]transaction.Found, error) {
	receipts, calls := make([]*receipt, len(transactions)), make([]rpc.BatchElem, len(transactions))
	for i, t := range transactions {
		calls[i] = rpc.BatchElem{Method: "eth_getTransactionReceipt", Args: []any{*t.Hash}, Result: &receipts[i]}
	}
	s.n.callAll(ctx, callTimeout, calls)
	var out []transaction.Found
	for i, t := range transactions {
		if calls[i].Error != nil {
			return nil, fmt.Errorf("receipt of a transaction of block %d: %w", b.Number, calls[i].Error)
		}
		if receipts[i] == nil {
			return nil, errRangeChanged
		}
		f := transaction.Found{Native: true, TransactionIndex: int32(*t.Index), Hash: *t.Hash, At: b}
		if fee, ok := receipts[i].fee(); ok && !fee.IsZero() && slices.Contains(holders, *t.From) {
			paid := f
			paid.Holder, paid.Kind, paid.Direction = *t.From, transaction.Fee, transaction.Out
			paid.LogIndex, paid.Amount = transaction.FeeIndex, *fee
			out = append(out, paid)
		}
		failed := receipts[i].Status != nil && *receipts[i].Status == 0
		if failed || t.Value == nil || t.To == nil {
			continue // what a contract was created with is an adjustment
		}
		amount, overflow := uint256.FromBig(t.Value.ToInt())
		if overflow {
			return nil, fmt.Errorf("the node answers with a transaction of block %d that moves 2^256 or more",
				b.Number)
		}
		f.Kind, f.LogIndex, f.Amount = transaction.Transfer, transaction.CoinIndex, *amount
		out = append(out, legs(f, holders, *t.From, *t.To)...)
	}
	return out, nil
}

// fee is what the sender paid in the native coin; false when the receipt doesn't say.
func (r *receipt) fee() (*uint256.Int, bool) {
	if r.Gas == nil || r.Price == nil {
		return nil, false
	}
	gas, over1 := uint256.FromBig(r.Gas.ToInt())
	price, over2 := uint256.FromBig(r.Price.ToInt())
	fee, over3 := new(uint256.Int).MulOverflow(gas, price)
	if over1 || over2 || over3 {
		return nil, false
	}
	if r.L1Fee != nil {
		l1, over := uint256.FromBig(r.L1Fee.ToInt())
		if over {
			return nil, false
		}
		fee, over = new(uint256.Int).AddOverflow(fee, l1)
		if over {
			return nil, false
		}
	}
	return fee, true
}
