package ethsig

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
)

const (
	// callTimeout bounds one HTTP request to a node; verifyTimeout bounds a
	// whole IsValidSignature.
	callTimeout   = 5 * time.Second
	verifyTimeout = 2 * callTimeout
	// maxResponseBytes bounds the body of a node's response.
	maxResponseBytes = 16 << 10
	// requiredNodes is how many nodes have to return the same result, where a
	// chain has as many.
	requiredNodes = 2
	// selector of isValidSignature(bytes32,bytes). It is also the magic value
	// that a contract returns for a valid signature.
	selector = "1626ba7e"
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

// IsValidSignature reports whether the contract at an address accepts sig for
// digest; false when there is no contract. A node that fails, or serves another
// chain, is skipped. errs.Unavailable (CHAIN_UNAVAILABLE) when too few nodes
// answer or two disagree, errs.FailedPrecondition (CHAIN_NOT_CONFIGURED) when
// the chain has no node.
func (c *Contracts) IsValidSignature(ctx context.Context, chainID uint64, contract Address, digest [32]byte,
	sig []byte) (bool, error) {
	nodes := c.nodes[chainID]
	if len(nodes) == 0 {
		return false, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
			fmt.Sprintf("chain eip155:%d has no node, which a contract wallet's signature is verified by", chainID))
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	data := callData(digest, sig)
	var results []bool
	var failures []error
	for i, node := range nodes {
		valid, err := c.callNode(ctx, node, chainID, contract, data)
		if err != nil {
			err = redact.Error(err, node)
			c.log.WarnContext(ctx, "node failed", "chain", chainID, "node", i+1, "error", err)
			failures = append(failures, err)
			continue
		}
		results = append(results, valid)
		if len(results) < min(requiredNodes, len(nodes)) {
			continue
		}
		if results[0] != valid {
			c.log.ErrorContext(ctx, "nodes disagree about a signature", "chain", chainID)
			return false, errs.Unavailable("CHAIN_UNAVAILABLE",
				fmt.Sprintf("the nodes of chain eip155:%d don't agree", chainID))
		}
		return valid, nil
	}
	return false, errs.Unavailable("CHAIN_UNAVAILABLE",
		fmt.Sprintf("too few nodes of chain eip155:%d answer", chainID)).Because(errors.Join(failures...))
}

// callData returns the ABI encoding of isValidSignature(digest, sig).
func callData(digest [32]byte, sig []byte) string {
	var b bytes.Buffer
	word := func(n int) { fmt.Fprintf(&b, "%064x", n) }
	b.WriteString("0x" + selector + hex.EncodeToString(digest[:]))
	word(64) // offset of the dynamic bytes
	word(len(sig))
	b.WriteString(hex.EncodeToString(sig))
	b.WriteString(strings.Repeat("00", (32-len(sig)%32)%32))
	return b.String()
}

// callNode returns one node's result, after it has checked the node's chain.
func (c *Contracts) callNode(ctx context.Context, node string, chainID uint64, contract Address,
	data string) (bool, error) {
	var id string
	if err := c.request(ctx, node, &id, "eth_chainId"); err != nil {
		return false, err
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64); err != nil || n != chainID {
		return false, errors.New("the node serves another chain")
	}
	var result string
	call := map[string]string{"to": contract.Lower(), "data": data}
	err := c.request(ctx, node, &result, "eth_call", call, "latest")
	if failure := (*rpcError)(nil); errors.As(err, &failure) && failure.isRevert() {
		return false, nil // a contract may refuse a signature by a revert, too
	}
	return result == "0x"+selector+strings.Repeat("0", 56), err
}

// rpcError is the error of a JSON-RPC response.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d: %s", e.Code, e.Message) }

// isRevert reports whether the contract failed the call, and not the node.
func (e *rpcError) isRevert() bool {
	return e.Code == 3 || strings.Contains(e.Message, "revert") || strings.Contains(e.Message, "invalid opcode")
}

// request makes one JSON-RPC request and decodes its result.
func (c *Contracts) request(ctx context.Context, node string, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, node, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("prepare request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxResponseBytes:
		return errors.New("the response is too large")
	}
	var response struct {
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
	}
	if err := json.Unmarshal(text, &response); err != nil {
		return fmt.Errorf("status %d, not JSON", resp.StatusCode)
	}
	if response.Error != nil {
		return response.Error
	}
	if resp.StatusCode != http.StatusOK || len(response.Result) == 0 {
		return fmt.Errorf("status %d, no result", resp.StatusCode)
	}
	return json.Unmarshal(response.Result, into)
}
