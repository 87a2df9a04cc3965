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
	InvalidAnswer Reason = "INVALID_ANSWER"
)
