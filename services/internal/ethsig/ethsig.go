// Package ethsig tells who signed a message with an Ethereum wallet: an account
// with a private key, or a contract.
//
// It promises: an account with a key is recovered from its signature alone
// (EIP-191), without a node, and of the two s that a signature can have one is
// taken (EIP-2). A contract wallet is called on its chain (ERC-1271), with a bound
// on what the call computes; one that is not deployed yet after its deployment was
// run in the same call, which changes nothing (ERC-6492). Where two or more nodes
// are configured for the chain, two have to return the same result, so that one
// lying node proves nothing; one that stands still, by its newest block, is not
// asked. A wrong checksum of an address is refused (EIP-55).
//
// Limits: a single node is trusted. The call is made at each node's latest
// block, in which two nodes can differ for a block's time. The call that ERC-6492
// allows to prepare a contract which is deployed already is not made.
package ethsig
