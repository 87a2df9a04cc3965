// Package block names a block of an EVM chain.
package block

import "time"

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
