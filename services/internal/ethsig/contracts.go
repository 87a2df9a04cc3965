package ethsig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/services/internal/httponly"
)

const (
	// callTimeout bounds one HTTP request to a node; verifyTimeout bounds a
	// whole Verify.
	callTimeout   = 5 * time.Second
	verifyTimeout = 2 * callTimeout
	// headTimeout bounds the comparison of the nodes before it, and maxHeadLag is how much
	// older than another's the newest block of a node may be.
	headTimeout = 2 * time.Second
	maxHeadLag  = time.Minute
	// requiredNodes is how many nodes have to return the same result, where a
	// chain has as many.
	requiredNodes = 2
	// selector of isValidSignature(bytes32,bytes). It is also the magic value
	// that a contract returns for a valid signature.
	selector = "\x16\x26\xba\x7e"
	// magicWord is the result of a contract that accepts a signature.
	magicWord = "0x1626ba7e00000000000000000000000000000000000000000000000000000000"
)

// Verdict is what a chain says about a signature.
type Verdict int

// The verdicts. A signature that is not Valid proves nothing.
const (
	// Refused: the contract does not accept the signature.
	Refused Verdict = iota
	// Valid: the contract accepts it.
	Valid
	// NoContract: there is no contract at the address.
	NoContract
)

// Contracts verifies signatures of contract wallets (ERC-1271) over JSON-RPC.
// It is safe for concurrent use.
type Contracts struct {
	nodes func(chainID uint64) []Node
	log   *slog.Logger
	now   func() time.Time
}

// NewContracts returns a verifier that calls these JSON-RPC nodes over HTTP, listed by
// chain id. A node that redirects is treated as failed.
func NewContracts(nodes map[uint64][]string, log *slog.Logger) *Contracts {
	client := &http.Client{
		Timeout:       callTimeout,
		Transport:     httponly.Transport(httpx.Default()),
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a node may not redirect") },
	}
	byChain := map[uint64][]Node{}
	for chain, urls := range nodes {
		for _, u := range urls {
			byChain[chain] = append(byChain[chain], httpNode{chainID: chain, url: u, client: client})
		}
	}
	return NewContractsOf(func(chain uint64) []Node { return byChain[chain] }, log)
}

// NewContractsOf returns a verifier that calls the nodes of a chain that the function returns, in that order.
func NewContractsOf(nodes func(chainID uint64) []Node, log *slog.Logger) *Contracts {
	return &Contracts{nodes: nodes, log: log, now: time.Now}
}

// Verify asks the contract at an address whether sig is its signature of digest.
// sig may be empty, and may be wrapped for a contract that is not deployed yet
// (see [Undeployed]). A call that the contract fails, by a revert or by using up
// its gas, is Refused.
//
// A node that fails, serves another chain, or has a newest block that is more than a
// minute older than another's, is skipped. errs.Unavailable
// (CHAIN_UNAVAILABLE) when too few nodes answer or two disagree;
// errs.FailedPrecondition: CHAIN_NOT_CONFIGURED when the chain has no node,
// WALLET_NOT_DEPLOYED when the contract is not deployed and too few nodes can run
// its deployment.
func (c *Contracts) Verify(ctx context.Context, chainID uint64, contract Address, digest [32]byte,
	sig []byte) (Verdict, error) {
	nodes := c.nodes(chainID)
	if len(nodes) == 0 {
		return Refused, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
			fmt.Sprintf("chain eip155:%d has no node, which a contract wallet's signature is verified by", chainID))
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	ask := question{contract: contract, digest: digest, sig: sig}
	var verdicts []Verdict
	var failures []error
	unusable := c.unusable(ctx, nodes)
	for i, node := range nodes {
		verdict, err := Refused, unusable[i]
		if err == nil {
			verdict, err = askNode(ctx, node, ask)
		}
		if err != nil {
			err = node.Redact(err)
			c.log.WarnContext(ctx, "node failed", "chain", chainID, "node", i+1, "error", err)
			failures = append(failures, err)
			continue
		}
		verdicts = append(verdicts, verdict)
		if len(verdicts) < min(requiredNodes, len(nodes)) {
			continue
		}
		if (verdicts[0] == Valid) != (verdict == Valid) {
			c.log.ErrorContext(ctx, "nodes disagree about a signature", "chain", chainID)
			return Refused, errs.Unavailable("CHAIN_UNAVAILABLE",
				fmt.Sprintf("the nodes of chain eip155:%d don't agree", chainID))
		}
		return verdict, nil
	}
	cause := errors.Join(failures...)
	if errors.Is(cause, errNoDeployment) {
		return Refused, errs.FailedPrecondition("WALLET_NOT_DEPLOYED", fmt.Sprintf("the wallet's contract is not "+
			"deployed yet (ERC-6492), and too few nodes of chain eip155:%d can run its deployment; deploy it, for "+
			"example by a first transaction", chainID)).Because(cause)
	}
	return Refused, errs.Unavailable("CHAIN_UNAVAILABLE",
		fmt.Sprintf("too few nodes of chain eip155:%d answer", chainID)).Because(cause)
}

// question is what a node is asked about.
type question struct {
	contract Address
	digest   [32]byte
	sig      []byte
}

// unusable returns why each node can't be asked, nil for one that can. The nodes are asked for their chain and, where
// there are several, for their newest block, all at once: one that stands still answers what was so when it stopped,
// such as who the owners of a wallet were.
func (c *Contracts) unusable(ctx context.Context, nodes []Node) []error {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	heads, failures := make([]time.Time, len(nodes)), make([]error, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() {
			if failures[i] = node.Check(ctx); failures[i] == nil && len(nodes) > 1 {
				heads[i], failures[i] = node.Head(ctx)
			}
		})
	}
	all.Wait()
	newest := c.reference(heads, failures)
	for i, head := range heads {
		if failures[i] == nil && newest.Sub(head) > maxHeadLag {
			failures[i] = fmt.Errorf("the node is behind its chain: its newest block is of %s, %s before another's",
				head.UTC().Format(time.RFC3339), newest.Sub(head).Round(time.Second))
		}
	}
	return failures
}

// reference is the time of the newest block that the others are compared with: the second newest where three nodes or
// more answer, so that no single one makes all others lag.
func (c *Contracts) reference(heads []time.Time, failures []error) time.Time {
	var known []time.Time
	for i, head := range heads {
		if failures[i] == nil {
			known = append(known, head)
		}
	}
	slices.SortFunc(known, func(a, b time.Time) int { return b.Compare(a) })
	if len(known) == 0 {
		return time.Time{}
	}
	newest := known[0]
	if len(known) > 2 {
		newest = known[1]
	}
	if now := c.now(); newest.After(now) {
		return now
	}
	return newest
}

// askNode returns one node's verdict.
func askNode(ctx context.Context, node Node, q question) (Verdict, error) {
	if wrapped, err := Unwrap(q.sig); err == nil {
		deployed, err := hasCode(ctx, node, q.contract)
		if err != nil {
			return Refused, err
		}
		if !deployed {
			return simulate(ctx, node, q)
		}
		q.sig = wrapped.Signature
	}
	result, err := call(ctx, node, &q.contract, isValidSignature(q.digest, q.sig))
	switch {
	case errors.Is(err, errContractFailed):
		return Refused, nil
	case err != nil:
		return Refused, err
	case result == magicWord:
		return Valid, nil
	case result != "0x":
		return Refused, nil
	}
	if deployed, err := hasCode(ctx, node, q.contract); err != nil || deployed {
		return Refused, err
	}
	return NoContract, nil
}

// isValidSignature returns the ABI encoding of isValidSignature(digest, sig).
func isValidSignature(digest [32]byte, sig []byte) []byte {
	return slices.Concat([]byte(selector), digest[:], word(64), abiBytes(sig)) // 64: where the bytes begin
}

// word returns n as an ABI word.
func word(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24, 32), uint64(n)) }

// abiBytes returns the ABI encoding of bytes: the length, and the content with
// zeros up to a whole word.
func abiBytes(b []byte) []byte {
	return slices.Concat(word(len(b)), b, make([]byte, (32-len(b)%32)%32))
}
