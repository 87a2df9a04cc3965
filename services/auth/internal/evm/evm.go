// Package evm asks contract wallets on EVM chains whether a signature is theirs
// (ERC-1271), over JSON-RPC.
//
// It promises: of two or more nodes of a chain two have to give the same
// answer, so that one that lies signs nobody in; a node that doesn't answer
// well is passed over, and without two the question stays open. A node is given
// five seconds and read sixteen kilobytes of an answer, is followed to no other
// place, and has to be of the chain.
//
// Limits: the state asked is the node's latest, which two nodes can differ in
// for a block; one node alone is believed.
package evm

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
	timeout   = 5 * time.Second
	maxAnswer = 16 << 10
	agree     = 2 // nodes, where there are as many
	// magic is what a contract that accepts answers: the selector of
	// isValidSignature(bytes32,bytes), which is asked with it.
	magic = "1626ba7e"
)

// Contracts asks contract wallets. It is safe for concurrent use.
type Contracts struct {
	nodes  map[uint64][]string
	client *http.Client
	log    *slog.Logger
}

// New returns contracts on chains with these JSON-RPC nodes.
func New(nodes map[uint64][]string, log *slog.Logger) *Contracts {
	return &Contracts{nodes: nodes, log: log, client: &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a node may not redirect") },
	}}
}

// Accepts reports whether the contract at an address takes sig as its signature
// of digest; false when there is no contract. errs.Unavailable
// (CHAIN_UNAVAILABLE) when too few nodes answer or they don't agree,
// errs.FailedPrecondition (CHAIN_NOT_CONFIGURED).
func (c *Contracts) Accepts(ctx context.Context, chain uint64, contract [20]byte, digest [32]byte, sig []byte) (bool,
	error) {
	nodes := c.nodes[chain]
	if len(nodes) == 0 {
		return false, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
			fmt.Sprintf("no node is configured for chain eip155:%d, which a contract wallet is asked on", chain))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*timeout)
	defer cancel()
	data := call(digest, sig)
	var answers []bool
	var failures []error
	for i, node := range nodes {
		ok, err := c.ask(ctx, node, chain, contract, data)
		if err != nil {
			err = redact.Error(err, node)
			c.log.WarnContext(ctx, "node failed", "chain", chain, "node", i+1, "error", err)
			failures = append(failures, err)
			continue
		}
		answers = append(answers, ok)
		if len(answers) < min(agree, len(nodes)) {
			continue
		}
		if answers[0] != ok {
			c.log.ErrorContext(ctx, "nodes disagree about a signature", "chain", chain)
			return false, errs.Unavailable("CHAIN_UNAVAILABLE",
				fmt.Sprintf("the nodes of chain eip155:%d don't agree", chain))
		}
		return ok, nil
	}
	return false, errs.Unavailable("CHAIN_UNAVAILABLE",
		fmt.Sprintf("too few nodes of chain eip155:%d answer", chain)).Because(errors.Join(failures...))
}

// call is the data of isValidSignature(digest, sig).
func call(digest [32]byte, sig []byte) string {
	var b bytes.Buffer
	word := func(n int) { fmt.Fprintf(&b, "%064x", n) }
	b.WriteString("0x" + magic + hex.EncodeToString(digest[:]))
	word(64) // where the bytes begin
	word(len(sig))
	b.WriteString(hex.EncodeToString(sig))
	b.WriteString(strings.Repeat("00", (32-len(sig)%32)%32))
	return b.String()
}

// ask has one node's answer.
func (c *Contracts) ask(ctx context.Context, node string, chain uint64, contract [20]byte, data string) (bool, error) {
	var id string
	if err := c.do(ctx, node, &id, "eth_chainId"); err != nil {
		return false, err
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64); err != nil || n != chain {
		return false, errors.New("the node is of another chain")
	}
	var result string
	to := map[string]string{"to": "0x" + hex.EncodeToString(contract[:]), "data": data}
	err := c.do(ctx, node, &result, "eth_call", to, "latest")
	if refusal := (*rpcError)(nil); errors.As(err, &refusal) && refusal.reverted() {
		return false, nil // which is how a contract refuses, too
	}
	return result == "0x"+magic+strings.Repeat("0", 56), err
}

// rpcError is a node's refusal.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d: %s", e.Code, e.Message) }

// reverted tells the contract's own refusal from one of the node.
func (e *rpcError) reverted() bool {
	return e.Code == 3 || strings.Contains(e.Message, "revert") || strings.Contains(e.Message, "invalid opcode")
}

func (c *Contracts) do(ctx context.Context, node string, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("encode call: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, node, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("prepare call: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxAnswer:
		return errors.New("the answer is too large")
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("status %d, not JSON", resp.StatusCode)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if resp.StatusCode != http.StatusOK || len(answer.Result) == 0 {
		return fmt.Errorf("status %d, no result", resp.StatusCode)
	}
	return json.Unmarshal(answer.Result, into)
}
