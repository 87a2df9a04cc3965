package chain

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// multicallABI has the methods of Multicall3 that are used, and ERC-20's
// balanceOf and decimals (EIP-20).
const multicallABI = `[
 {"type":"function","name":"aggregate3","stateMutability":"payable",
  "inputs":[{"name":"calls","type":"tuple[]","components":[
    {"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
  "outputs":[{"name":"returnData","type":"tuple[]","components":[
    {"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]},
 {"type":"function","name":"getEthBalance","stateMutability":"view",
  "inputs":[{"name":"addr","type":"address"}],"outputs":[{"name":"balance","type":"uint256"}]},
 {"type":"function","name":"balanceOf","stateMutability":"view",
  "inputs":[{"name":"owner","type":"address"}],"outputs":[{"name":"balance","type":"uint256"}]},
 {"type":"function","name":"decimals","stateMutability":"view",
  "inputs":[],"outputs":[{"name":"decimals","type":"uint8"}]}]`

// Multicall3 is the contract's address, the same on every chain that has it.
const Multicall3 = "0xcA11bde05977b3631167028862bE2a173976CA11"

// codec encodes the calls of Multicall3 and decodes its results.
type codec struct {
	abi     abi.ABI
	address common.Address
}

// call3 is Multicall3's Call3.
type call3 struct {
	Target       common.Address
	AllowFailure bool
	CallData     []byte
}

// result3 is Multicall3's Result.
type result3 struct {
	Success    bool
	ReturnData []byte
}

func newCodec() (*codec, error) {
	parsed, err := abi.JSON(strings.NewReader(multicallABI))
	if err != nil {
		return nil, fmt.Errorf("multicall ABI: %w", err)
	}
	return &codec{abi: parsed, address: common.HexToAddress(Multicall3)}, nil
}

// query asks for one holder's balance of one token, or for the token's decimals.
type query struct {
	holder   common.Address
	token    token.Token
	decimals bool
}

// queryCall returns the contract that a query asks and the data of the call. That of the
// native coin asks Multicall3.
func (c *codec) queryCall(q query) (to common.Address, data []byte, err error) {
	switch {
	case q.decimals:
		data, err = c.abi.Pack("decimals")
		return q.token.Contract, data, err
	case q.token.Native:
		data, err = c.abi.Pack("getEthBalance", q.holder)
		return c.address, data, err
	}
	data, err = c.abi.Pack("balanceOf", q.holder)
	return q.token.Contract, data, err
}

// asksFor asks for every token of every holder.
func requestsFor(holders []common.Address, tokens []token.Token) []balancesync.Request {
	requests := make([]balancesync.Request, len(holders))
	for i, h := range holders {
		requests[i] = balancesync.Request{Holder: h, Tokens: tokens}
	}
	return requests
}

// queriesOf asks for the tokens of each holder, holder by holder.
func queriesOf(requests []balancesync.Request) []query {
	queries := make([]query, 0, tokenCount(requests))
	for _, a := range requests {
		for _, t := range a.Tokens {
			queries = append(queries, query{holder: a.Holder, token: t})
		}
	}
	return queries
}

// tokenCount is how many balances are asked for.
func tokenCount(requests []balancesync.Request) (n int) {
	for _, a := range requests {
		n += len(a.Tokens)
	}
	return n
}

// result of a query.
type result struct {
	amount *uint256.Int // nil when it could not be read
	// noData: the call succeeded and returned nothing, like every call of an
	// address without code.
	noData bool
}

// resultKey is a result that can be compared.
type resultKey struct {
	amount       uint256.Int
	read, noData bool
}

func (r result) key() resultKey {
	if r.amount == nil {
		return resultKey{noData: r.noData}
	}
	return resultKey{amount: *r.amount, read: true}
}

// pack encodes all queries as one call.
func (c *codec) pack(queries []query) ([]byte, error) {
	calls := make([]call3, len(queries))
	for i, q := range queries {
		target, data, err := c.queryCall(q)
		if err != nil {
			return nil, fmt.Errorf("pack a query: %w", err)
		}
		calls[i] = call3{Target: target, AllowFailure: true, CallData: data}
	}
	return c.packCalls(calls)
}

// packCalls encodes calls as one.
func (c *codec) packCalls(calls []call3) ([]byte, error) {
	data, err := c.abi.Pack("aggregate3", calls)
	if err != nil {
		return nil, fmt.Errorf("pack aggregate3: %w", err)
	}
	return data, nil
}

// unpackCalls decodes the results of n calls.
func (c *codec) unpackCalls(reply []byte, n int) ([]result3, error) {
	var results []result3
	if err := c.abi.UnpackIntoInterface(&results, "aggregate3", reply); err != nil {
		return nil, fmt.Errorf("unpack aggregate3: %w", err)
	}
	if len(results) != n {
		return nil, fmt.Errorf("aggregate3 answered %d of %d calls", len(results), n)
	}
	return results, nil
}

// unpack decodes the results of n queries. A call that failed, or returned
// anything but one word, has no amount; it is not zero.
func (c *codec) unpack(reply []byte, n int) ([]result, error) {
	results3, err := c.unpackCalls(reply, n)
	if err != nil {
		return nil, err
	}
	results := make([]result, n)
	for i, r := range results3 {
		if r.Success {
			results[i] = resultOf(r.ReturnData)
		}
	}
	return results, nil
}

// resultOf is the result of a call that succeeded with this answer.
func resultOf(answer []byte) result {
	switch len(answer) {
	case 32:
		return result{amount: new(uint256.Int).SetBytes32(answer)}
	case 0:
		return result{noData: true}
	}
	return result{}
}

// readChunks reads balances at a block, chunk by chunk.
func (r *Reader) readChunks(ctx context.Context, n *node, b block.Block, queries []query) ([]result, error) {
	results := make([]result, 0, len(queries))
	for chunk := range slices.Chunk(queries, r.chunkSize) {
		limited, cancel := context.WithTimeout(ctx, chunkTimeout)
		read, err := r.readChunk(limited, callTimeout, n, b, chunk)
		cancel()
		if err != nil {
			return nil, err
		}
		results = append(results, read...)
	}
	return results, nil
}

// readChunk reads balances in one call. If the node refuses it, the chunk is
// halved, and each half read so. A single balance that is refused has no amount.
func (r *Reader) readChunk(ctx context.Context, timeout time.Duration, n *node, b block.Block,
	queries []query) ([]result, error) {
	if n.knownWithoutCode(r.codec.address, b.Number) {
		return r.readEach(ctx, timeout, n, b, queries)
	}
	data, err := r.codec.pack(queries)
	if err != nil {
		return nil, err
	}
	calls := []rpc.BatchElem{r.codec.call(data, gasOf(len(queries)))}
	n.callAllAt(ctx, timeout, []block.Block{b}, calls)
	return r.chunkResults(ctx, timeout, n, b, queries, calls[0])
}

const (
	// balanceGas bounds a call for one balance, more than any token's takes: a contract that loops has a node execute
	// all that it gives, which takes hardhat longer than callTimeout for what it gives by itself.
	balanceGas = 1_000_000
	// gasPerBalance is more than a balance takes on average. A call of Multicall3 gets it for each of its balances,
	// but at least balanceGas, and at most maxChunkGas, since hardhat refuses a call with more. A call that runs out
	// of gas is made again in halves.
	gasPerBalance, maxChunkGas = 80_000, 16_000_000
)

// gasOf is the gas of a call of Multicall3 for n balances.
func gasOf(n int) uint64 { return uint64(min(max(balanceGas, n*gasPerBalance), maxChunkGas)) }

// call is the call of Multicall3 with this data and gas, without its block. Its result is a
// *hexutil.Bytes.
func (c *codec) call(data []byte, gas uint64) rpc.BatchElem {
	return rpc.BatchElem{Method: "eth_call", Result: new(hexutil.Bytes), Args: []any{map[string]any{
		"from": common.Address{}, "to": c.address, "input": hexutil.Bytes(data), "gas": hexutil.Uint64(gas)}}}
}

// chunkResults decodes what the node replied to the call of a chunk, which has no
// result and no error when it was not made, since there is no Multicall3.
func (r *Reader) chunkResults(ctx context.Context, timeout time.Duration, n *node, b block.Block, queries []query,
	call rpc.BatchElem) ([]result, error) {
	reply, err := *call.Result.(*hexutil.Bytes), call.Error
	switch {
	case err == nil && len(reply) == 0:
		if err := r.checkNoMulticall(ctx, timeout, n, b); err != nil {
			return nil, err
		}
		return r.readEach(ctx, timeout, n, b, queries)
	case err == nil:
		return r.codec.unpack(reply, len(queries))
	case !isRefused(err):
		return nil, fmt.Errorf("aggregate3 at block %d: %w", b.Number, n.stateError(err, b))
	case len(queries) == 1:
		return make([]result, 1), nil
	}
	half := len(queries) / 2
	low, err := r.readChunk(ctx, timeout, n, b, queries[:half])
	if err != nil {
		return nil, err
	}
	high, err := r.readChunk(ctx, timeout, n, b, queries[half:])
	return append(low, high...), err
}

// checkNoMulticall returns nil if nothing is at Multicall3's address, as an answer without
// a byte suggests.
func (r *Reader) checkNoMulticall(ctx context.Context, timeout time.Duration, n *node, b block.Block) error {
	without, err := n.isWithoutCode(ctx, timeout, b, r.codec.address)
	if err != nil {
		return fmt.Errorf("code of Multicall3: %w", err)
	}
	if !without {
		return fmt.Errorf("what is at Multicall3's address at block %d answers with nothing", b.Number)
	}
	return nil
}

// checkAnyRead returns an error when none of the results has an amount.
func checkAnyRead(results []result, b block.Block) error {
	if len(results) > 0 && !slices.ContainsFunc(results, func(r result) bool { return r.amount != nil }) {
		return fmt.Errorf("no balance could be read at block %d", b.Number)
	}
	return nil
}

// amountsOf groups the results of queriesOf by holder; nil when there are more or fewer.
func amountsOf(results []result, requests []balancesync.Request) [][]*uint256.Int {
	amounts := make([][]*uint256.Int, len(requests))
	for h, a := range requests {
		if len(results) < len(a.Tokens) {
			return nil
		}
		for _, r := range results[:len(a.Tokens)] {
			amounts[h] = append(amounts[h], r.amount)
		}
		results = results[len(a.Tokens):]
	}
	if len(results) > 0 {
		return nil
	}
	return amounts
}

// readingsOf groups the results of queriesOf by holder. Those that are open are disputed, and have no amount.
func readingsOf(b block.Block, results []result, open []bool, requests []balancesync.Request) []balancesync.Reading {
	readings := make([]balancesync.Reading, len(requests))
	for h, amounts := range amountsOf(results, requests) {
		readings[h] = balancesync.Reading{Block: b, Amounts: amounts, Disputed: open[:len(amounts)]}
		open = open[len(amounts):]
	}
	return readings
}
