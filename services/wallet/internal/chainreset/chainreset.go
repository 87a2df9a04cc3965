// Package chainreset recognises that a chain was reset: that it no longer has the blocks that were read of it, as a
// chain for development that was started anew, or that went back to an earlier state.
//
// It keeps some blocks of each chain: the first, those of the numbers 1, 2, 4 and so on, and, of blocks seen later, a
// sample that thins out with age. The nodes are asked for them again and again. A node that has another block
// where one is kept is on another chain, unless the newest 64 blocks alone are others and it has come as far: that is
// a reorg. A node that lacks the newest ones alone is behind.
//
// It promises: a single node of several never makes a chain look reset, and neither does one that lags; nor does a
// chain on which any node that answers has the newest kept block. What is stored of a chain is forgotten by itself
// only after it has looked reset for the time that is set, in at least three checks; of public chains only when a time
// is set. What was imported is never forgotten.
//
// A chain that went back, and whose nodes have no other block yet where one is kept, can't be told from nodes that are
// behind. A chain for development, and one of which a time is set, is then taken for one that went back, when enough
// nodes say so and the newest block of theirs stays the same for that time. Other chains are only reported as possibly
// reset.
//
// Limits: on a chain with a single node, that node is believed in the end.
package chainreset

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// History is what a node says of a chain's past.
type History struct {
	Node int // its place in the settings, from 1
	Head block.Block
	// Blocks of the numbers that were asked for, in their order; the zero block for one that it doesn't have.
	Blocks []block.Block
}

// Nodes asks the nodes of chains; chain.Reader does.
type Nodes interface {
	// Nodes is how many a chain has, NeededToAgree how many of them have to say the same.
	Nodes(chain uint64) int
	NeededToAgree(chain uint64) int
	// Heads returns the newest blocks of the nodes that answer, Histories those and others. It is an error when none
	// does.
	Heads(ctx context.Context, chain uint64) ([]block.Block, error)
	Histories(ctx context.Context, chain uint64, numbers []uint64) ([]History, error)
	// Forget has what was remembered of the chain's blocks not used any more.
	Forget(chain uint64)
}

// Record is what is stored of a chain.
type Record struct {
	Blocks []block.Block // that are kept, the newest first, without their times
	// SuspectedAt is since when it looks reset, nil while it doesn't; Seen is how many checks found that, and Evidence
	// what.
	SuspectedAt *time.Time
	Seen        int
	Evidence    string
	ForgottenAt *time.Time // when it was forgotten last
	// Forgetting: it is being forgotten; Now is the database's time.
	Forgetting bool
	Now        time.Time
}

// Store has the records, and what else is stored of chains.
type Store interface {
	// Record returns what is stored of a chain, an empty record of one that is new.
	Record(ctx context.Context, chain uint64) (Record, error)
	// Keep adds blocks to those that are kept, and removes others by their numbers. The chain looks reset no longer.
	Keep(ctx context.Context, chain uint64, add []block.Block, remove []uint64) error
	// Suspect notes that a chain looks reset, and returns its record. Checks within a third of a second count once.
	Suspect(ctx context.Context, chain uint64, evidence string) (Record, error)
	// Forget removes what is stored of a chain and its wallets but for what was imported, and has them synced anew. It
	// goes on where a call was cut off.
	Forget(ctx context.Context, chain uint64) (Forgotten, error)
	// Count returns what Forget would remove.
	Count(ctx context.Context, chain uint64) (Forgotten, error)
}

// Forgotten is how much was removed.
type Forgotten struct {
	Wallets, Balances, Changes, Transactions, Hours int64
}

// Verdict is what is known of a chain.
type Verdict struct {
	SuspectedAt time.Time // zero while it doesn't look reset
	Message     string    // in words, with what to do
	ForgetAt    time.Time // when it is forgotten by itself; zero when it isn't
	ForgottenAt time.Time // when it was last; zero if never
}

// Suspected reports whether the chain looks reset.
func (v Verdict) Suspected() bool { return !v.SuspectedAt.IsZero() }

// Error is the error of a reading of a chain that looks reset.
func (v Verdict) Error(retryAfter time.Duration) error {
	return errs.Unavailable("CHAIN_RESET", v.Message).After(retryAfter)
}

// Never, as a time after which to forget a chain, leaves that to the command.
const Never = time.Duration(-1)

// defaultAfter is how long a chain for development has to look reset until it is forgotten.
const defaultAfter = 5 * time.Minute

// mayGoBack reports whether a chain is one whose nodes are rather taken back to an earlier state than behind: a chain
// for development, or one of which a time is set.
func (g *Guard) mayGoBack(chain uint64) bool {
	set, ok := g.times[chain]
	return ok && set != Never || !ok && chain == caip.DevelopmentChain
}

// minSeen is how many checks have to find it.
const minSeen = 3

// after is how long a chain has to look reset until what is stored of it is forgotten.
func (g *Guard) after(chain uint64) time.Duration {
	if set, ok := g.times[chain]; ok {
		return set
	}
	if name, _ := caip.ChainName(chain); name != "" && chain != caip.DevelopmentChain {
		return Never // a public chain isn't reset: its nodes are those of another one
	}
	return defaultAfter
}
