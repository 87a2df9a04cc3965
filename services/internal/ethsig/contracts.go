package ethsig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
)

const (
	// callTimeout bounds one HTTP request to a node; verifyTimeout bounds a
	// whole Verify.
	callTimeout   = 5 * time.Second
	verifyTimeout = 2 * callTimeout
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
	nodes  map[uint64][]string
	client *http.Client
	log    *slog.Logger
}

// NewContracts returns a verifier that calls these JSON-RPC nodes, listed by
// chain id. A node that redirects is treated as failed.
func NewContracts(nodes map[uint64][]string, log *slog.Logger) *Contracts {
	return &Contracts{nodes: nodes, log: log, client: &http.Client{
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a node may not redirect") },
	}}
}

// Verify asks the contract at an address whether sig is its signature of digest.
// sig may be empty, and may be wrapped for a contract that is not deployed yet
// (see [Undeployed]). A call that the contract fails, by a revert or by using up
// its gas, is Refused.
//
// A node that fails, or serves another chain, is skipped. errs.Unavailable
// (CHAIN_UNAVAILABLE) when too few nodes answer or two disagree;
// errs.FailedPrecondition: CHAIN_NOT_CONFIGURED when the chain has no node,
// WALLET_NOT_DEPLOYED when the contract is not deployed and too few nodes can run
// its deployment.
func (c *Contracts) Verify(ctx context.Context, chainID uint64, contract Address, digest [32]byte,
	sig []byte) (Verdict, error) {
	nodes := c.nodes[chainID]
	if len(nodes) == 0 {
		return Refused, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
			fmt.Sprintf("chain eip155:%d has no node, which a contract wallet's signature is verified by", chainID))
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	ask := question{chainID: chainID, contract: contract, digest: digest, sig: sig}
	var verdicts []Verdict
	var failures []error
	for i, node := range nodes {
		verdict, err := c.askNode(ctx, node, ask)
		if err != nil {
			err = redact.Error(err, node)
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
	chainID  uint64
	contract Address
	digest   [32]byte
	sig      []byte
}

// askNode returns one node's verdict, after it has checked the node's chain.
func (c *Contracts) askNode(ctx context.Context, node string, q question) (Verdict, error) {
	var id string
	if err := c.request(ctx, node, &id, "eth_chainId"); err != nil {
		return Refused, err
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64); err != nil || n != q.chainID {
		return Refused, errors.New("the node serves another chain")
	}
	if wrapped, err := Unwrap(q.sig); err == nil {
		deployed, err := c.hasCode(ctx, node, q.contract)
		if err != nil {
			return Refused, err
		}
		if !deployed {
			return c.simulate(ctx, node, q)
		}
		q.sig = wrapped.Signature
	}
	result, err := c.call(ctx, node, &q.contract, isValidSignature(q.digest, q.sig))
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
	if deployed, err := c.hasCode(ctx, node, q.contract); err != nil || deployed {
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
