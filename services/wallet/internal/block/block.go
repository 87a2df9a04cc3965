// Package block names a block of an EVM chain.
package block

import (
	"fmt"
	"time"
)

// Block is one block of a chain. The zero value is no block.
type Block struct {
	Number uint64
	Hash   [32]byte
	Time   time.Time
}

// FinalAfter is the age at which a block is taken as final: no reorg replaces
// one that is older. Chains with finality, Ethereum and what settles on it,
// need less; it is a rule of this service, not of a chain.
const FinalAfter = 15 * time.Minute

// Replaced says that a chain has other blocks than before (a reorg).
type Replaced struct {
	Chain uint64
	// Since is the time of the last block that is known to be the same.
	Since time.Time
}

// String is one text without a line break; ParseReplaced reads it.
func (r Replaced) String() string {
	return fmt.Sprintf("%d %s", r.Chain, r.Since.UTC().Format(time.RFC3339))
}

// ParseReplaced reads what String wrote.
func ParseReplaced(text string) (r Replaced, err error) {
	var since string
	if _, err = fmt.Sscanf(text, "%d %s", &r.Chain, &since); err == nil {
		r.Since, err = time.Parse(time.RFC3339, since)
	}
	if err != nil {
		return Replaced{}, fmt.Errorf("replaced blocks %q: %w", text, err)
	}
	return r, nil
}
