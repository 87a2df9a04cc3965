package chain

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
)

var (
	// errNoState is about a block whose state the node doesn't have, or no longer.
	errNoState = errors.New("the node has no state")
	// errNoBlock is about a block that the node doesn't have.
	errNoBlock = errors.New("no such block")
	// errUnknownBlock is about a block that a node named and doesn't know.
	errUnknownBlock = errors.New("the node doesn't know a block that it named, as nodes behind a balancer " +
		"that are not at the same block")
)

// kind of an error that a node answered.
type kind int

const (
	otherError    kind = iota // not an answer of JSON-RPC
	refusedCall               // it does not do this call: too much gas, or too large. Halves of it may work
	revertedCall              // the contract ended the call
	noState                   // it doesn't have the state of the block, or no longer
	unknownBlock              // it doesn't know the block (yet)
	noBlockHashes             // it takes no block's hash in place of a number (EIP-1898)
	limited                   // it is called too often
	unsupported               // it doesn't have the method
)

// rule says which errors are of a kind: those with one of the codes, or any without
// codes, whose text matches.
type rule struct {
	kind
	codes []int
	text  *regexp.Regexp
}

// rules are tried in this order. They were seen at geth 1.13 to 1.16, erigon, besu and nethermind, and, as a test
// holds against the programs themselves, at anvil 1.7.1 and hardhat 2.29.1; ganache is 7.9.2.
var rules = []rule{
	{limited, []int{-32005, 429, -32007, -32016, -32029, -32097}, nil}, // EIP-1474's own, and large providers'
	{limited, nil, regexp.MustCompile(`(?i)too many requests|rate limit|compute units per second|` +
		`request count exceeded`)},
	{unsupported, []int{-32601, -32004}, nil}, // of JSON-RPC, and EIP-1474's, as hardhat answers
	// ganache; geth before 1.9; parity.
	{noBlockHashes, nil, regexp.MustCompile(`(?i)cannot wrap a "object"|cannot unmarshal object into|` +
		`invalid type: map, expected`)},
	// geth: header not found, header for hash not found; besu: Block not found; anvil: Resource not found (-32001,
	// as in EIP-1474); hardhat: Received invalid block tag.
	{unknownBlock, []int{-32001}, nil},
	{unknownBlock, nil, regexp.MustCompile(`(?i)(header|block).* not found|unknown block|received invalid block tag`)},
	{noState, nil, regexp.MustCompile(`(?i)missing trie node|pruned?\b|pruning|archive|` +
		`(world |historical |required historical )?state .*(not available|unavailable)|` +
		`no state available|world state unavailable|no historical rpc`)},
	// An opcode that isn't one, as code before Solidity 0.8 asserts with: anvil EVM error InvalidFEOpcode, hardhat
	// and ganache invalid opcode, both not with code 3.
	{revertedCall, []int{3}, nil},
	{revertedCall, nil, regexp.MustCompile(`(?i)\brevert|invalid ?(fe)? ?opcode|invalid jump|stack (under|over)flow`)},
}

// outOfRange is anvil's error for a block before what it has kept, and for one that is not there yet.
var outOfRange = regexp.MustCompile(`BlockOutOfRangeError: block height is (\d+) but requested was (\d+)`)

// tooManyLogs is how a node refuses to look for events in a range: by the number of blocks, or by the size of the
// answer. Some answer so with EIP-1474's code for a caller who calls too often, and with no more than its name.
var tooManyLogs = regexp.MustCompile(`(?i)\b(results|logs|events|ranges?|response size)\b|^limit exceeded$`)

// answeredError is an error of JSON-RPC that came with an HTTP status of an error.
type answeredError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data"`
}

func (e *answeredError) Error() string  { return e.Message }
func (e *answeredError) ErrorCode() int { return e.Code }
func (e *answeredError) ErrorData() any { return e.Data }

// answerIn returns the error of JSON-RPC that is the body of an HTTP 400, or err itself.
func answerIn(err error) error {
	var status rpc.HTTPError
	if !errors.As(err, &status) || status.StatusCode != http.StatusBadRequest {
		return err
	}
	var body struct{ Error *answeredError }
	if json.Unmarshal(status.Body, &body) != nil || body.Error == nil || body.Error.Message == "" {
		return err
	}
	return body.Error
}

// kindOf returns what an error of a call is. It has to see the error before it is redacted.
func kindOf(err error) kind {
	var status rpc.HTTPError
	if errors.As(err, &status) && status.StatusCode == http.StatusRequestEntityTooLarge {
		return refusedCall
	}
	var answer rpc.Error
	if !errors.As(err, &answer) {
		return otherError
	}
	text := redact.Error(err).Error()
	if found := outOfRange.FindStringSubmatch(text); found != nil {
		height, err1 := strconv.ParseUint(found[1], 10, 64)
		requested, err2 := strconv.ParseUint(found[2], 10, 64)
		if errors.Join(err1, err2) == nil && requested <= height {
			return noState
		}
		return unknownBlock
	}
	for _, r := range rules {
		if (r.codes == nil || slices.Contains(r.codes, answer.ErrorCode())) &&
			(r.text == nil || r.text.MatchString(text)) {
			return r.kind
		}
	}
	return refusedCall
}

func isNoState(err error) bool { return kindOf(err) == noState }

// isRefused reports whether the node answered that it does not do this call, or that the contract ended it: parts of
// it may work. It is false for a node that did not answer, that is called too often, or that doesn't know the block.
func isRefused(err error) bool {
	k := kindOf(err)
	return k == refusedCall || k == revertedCall
}

// isRangeRefused reports whether the node answered that it does not look for events in so many blocks.
func isRangeRefused(err error) bool {
	var answer rpc.Error
	return isRefused(err) ||
		kindOf(err) == limited && errors.As(err, &answer) && tooManyLogs.MatchString(answer.Error())
}
