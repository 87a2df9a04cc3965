// Package ethsig tells who signed a message with an Ethereum wallet: an account
// with a private key, or a contract.
//
// It promises: an account with a key is recovered from its signature alone
// (EIP-191), without a node, and a valid signature has one form (EIP-2). A
// contract wallet is called on its chain (ERC-1271); where two or more nodes
// are configured for the chain, two have to return the same result, so that one
// lying node proves nothing. Addresses are read with their EIP-55 checksum.
//
// Limits: a single node is trusted. The call is made at each node's latest
// block, in which two nodes can differ for a block's time. Signatures of
// contracts that are not deployed yet are recognized, but not verified
// (ERC-6492).
package ethsig
