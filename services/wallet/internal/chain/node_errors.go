package chain

import (
	"errors"
	"net/http"
	"regexp"
	"slices"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
)

var (
	// errNoState is about a block whose state the node doesn't have, or no longer.
	errNoState = errors.New("the node has no state")
	// errNoMulticall is about a block at which the contract did not exist.
	errNoMulticall = errors.New("no Multicall3")
	// errNoBlock is about a block that the node doesn't have.
	errNoBlock = errors.New("no such block")
)

// noStateText matches the errors of nodes that don't have a block's state.
var noStateText = regexp.MustCompile(`(?i)missing trie node|pruned?\b|pruning|archive|` +
	`(world |historical |required historical )?state .*(not available|unavailable)|` +
	`no state available|world state unavailable|no historical rpc`)

func isNoState(err error) bool {
	return err != nil && noStateText.MatchString(redact.Error(err).Error())
}

// unknownBlockText matches the errors of nodes that don't know a block's hash.
var unknownBlockText = regexp.MustCompile(`(?i)(header|block).* not found|unknown block`)

// rateLimitCodes are the JSON-RPC codes of a node that is called too often:
// EIP-1474's own and those that large providers use instead.
func rateLimitCodes() []int { return []int{-32005, 429, -32007, -32016, -32029, -32097} }

// isRefused reports whether the node answered that it does not do this call,
// because it takes too much gas or is too large: halves of it may work. It is
// false for a node that did not answer, that is called too often, or that
// doesn't know the block.
func isRefused(err error) bool {
	if unknownBlockText.MatchString(redact.Error(err).Error()) {
		return false
	}
	var answer rpc.Error
	var status rpc.HTTPError
	return errors.As(err, &answer) && !slices.Contains(rateLimitCodes(), answer.ErrorCode()) ||
		errors.As(err, &status) && status.StatusCode == http.StatusRequestEntityTooLarge
}
