package chainlist

import (
	"time"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// Status is what is known of a chain's nodes, in the order to try them.
type Status struct {
	Chain uint64
	Nodes []NodeStatus
}

// NodeStatus is what is known of a node. It has no part of its URL that may be a key.
type NodeStatus struct {
	// Provider is the registered domain of the host, as "alchemy.com"; empty for an
	// IP address and a name without one.
	Provider string
	// CheckedAt is when the node was last checked, zero before. It answered then if
	// Reachable, with Head after Latency.
	CheckedAt time.Time
	Reachable bool
	Head      block.Block
	Latency   time.Duration
	// CooldownUntil is when the cooldown of a failure ends or has ended.
	CooldownUntil time.Time
	// FailedAt and Reason are of the last failure, in a check or a reading; empty
	// when there was none.
	FailedAt time.Time
	Reason   Reason
}

// MaxHeadLag is how much older than that of another node of its chain the newest
// block of a node may be: blocks take their time to reach all nodes.
const MaxHeadLag = time.Minute

// Lags reports whether a head is so much older than another of its chain that the
// node follows its chain no longer. The other counts as of now at the latest: a node
// whose clock is ahead makes no other one lag.
func Lags(head, other block.Block, now time.Time) bool {
	newest := other.Time
	if newest.After(now) {
		newest = now
	}
	return newest.Sub(head.Time) > MaxHeadLag
}

// Reason says why a node failed.
type Reason string

// The reasons.
const (
	Timeout       Reason = "TIMEOUT"
	Unreachable   Reason = "UNREACHABLE"
	RateLimited   Reason = "RATE_LIMITED"
	Unauthorized  Reason = "UNAUTHORIZED"
	WrongChain    Reason = "WRONG_CHAIN"
	BlockInFuture Reason = "BLOCK_IN_FUTURE"
	Behind        Reason = "BEHIND"
	UnknownBlock  Reason = "UNKNOWN_BLOCK"
	Disagrees     Reason = "DISAGREES"
	Redirects     Reason = "REDIRECTS"
	Refused       Reason = "REFUSED"
	InvalidAnswer Reason = "INVALID_ANSWER"
)
