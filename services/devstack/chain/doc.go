// Package chain runs an EVM chain inside the process, for development and tests.
//
// It is a go-ethereum node in archive mode without peers or discovery; it listens for JSON-RPC over HTTP on loopback
// only. The wallet service uses it like a public node.
//
// The chain promises:
//
//   - History. The first start makes blocks for a past period (by default one per hour for 90 days) with past times.
//     They contain the transfers of a Plan, signed and executed like all others.
//   - Continuity. All data is in one folder. A restart continues from the stored head, also after the process was
//     killed, and fills the pause with blocks of the same interval.
//   - Determinism. The same seed, anchor, history, spacing, chain id and clock
//     give the same block hashes, bit for bit.
//   - Expected balances. Plan.Balance computes the balance of each address at each time without the EVM.
//   - Complete logs. Tokens are created in block 1 with a Transfer event, so the Transfer events of an address add up
//     to its balance at every block.
//
// Limits: there is one miner and it never reorganises; fork rules stop at Cancun;
// "safe" is one block and "finalized" two blocks behind the head. The keys of all
// seeded accounts are public: never use them on a real network.
//
// go-ethereum logs through one process-wide logger and ends the process when it cannot write to its database. Start
// replaces that logger (the last chain started wins); the reason for such an end is always printed.
package chain
