// Package chain runs an EVM chain inside the process, for development and tests.
//
// It is a real go-ethereum node in archive mode with nobody to talk to: no
// peers, no discovery, no listening port but JSON-RPC over HTTP on loopback. The
// wallet service reaches it the way it reaches a public node.
//
// The chain promises:
//
//   - History. At the first start, blocks are made for a stretch of the past (by
//     default one an hour for 90 days), stamped with the times they stand for.
//     They carry the transfers of a Plan, signed and executed like any others.
//   - Continuity. Everything is kept in one folder. A restart carries on from the
//     stored head, filling the pause with blocks of the same spacing, also after
//     the process was killed.
//   - Determinism. The same seed, anchor, history, spacing, chain id and clock
//     give the same block hashes, bit for bit.
//   - Accountability. Balance says what each address must hold at each moment,
//     worked out from the Plan alone, without the EVM.
//   - Complete logs. Tokens come into being in block 1 with a Transfer event, so
//     the Transfer events of an address add up to its balance at every block.
//
// Limits: there is one miner and it never reorganises; fork rules stop at Cancun;
// "safe" is one block and "finalized" two blocks behind the head. The keys of all
// seeded accounts are public. Nothing here has any value, or belongs on a network.
//
// go-ethereum logs through one process-wide logger and ends the process when it
// can't write to its database. Start takes that logger over (the last chain
// started wins); the reason for such an end is always printed.
package chain
