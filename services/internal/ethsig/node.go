package ethsig

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
)

const (
	// maxResponseBytes bounds the body of a node's response.
	maxResponseBytes = 16 << 10
	// callGas bounds what a call may compute. A check of a signature takes up to
	// about a million; the deployment of a wallet before it, a few.
	callGas = "0x989680" // 10,000,000
	// caller is the sender of the calls: "purser-verifies-sigs", so nobody has its key. Without
	// a sender nodes take the zero address, by which some contracts recognize a
	// simulation and accept everything.
	caller = "0x7075727365722d76657269666965732d73696773"
)

// errContractFailed is about a call that the contract failed, and not the node.
var errContractFailed = errors.New("the contract failed the call")

// call makes a call at the node's latest block and returns the result in
// hexadecimal, "0x" for none. Without a contract, data is the init code of one
// that is created for the call alone, and the result is its code. The error is
// errContractFailed when the call ran and failed.
func (c *Contracts) call(ctx context.Context, node string, contract *Address, data []byte) (string, error) {
	call := map[string]string{"from": caller, "gas": callGas, "data": "0x" + hex.EncodeToString(data)}
	if contract != nil {
		call["to"] = contract.Lower()
	}
	var result string
	err := c.request(ctx, node, &result, "eth_call", call, "latest")
	if failure := (*rpcError)(nil); errors.As(err, &failure) && failure.isOfContract() {
		return "", fmt.Errorf("%w: %w", errContractFailed, err)
	}
	return result, err
}

// hasCode reports whether there is a contract at an address.
func (c *Contracts) hasCode(ctx context.Context, node string, a Address) (bool, error) {
	// Only its beginning matters, but nodes return all of it: up to 24 KiB (EIP-170),
	// in hexadecimal.
	const maxCode = 2*(24<<10) + maxResponseBytes
	var code string
	err := c.requestUpTo(ctx, maxCode, node, &code, "eth_getCode", a.Lower(), "latest")
	return len(code) > len("0x"), err
}

// rpcError is the error of a JSON-RPC response.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("error %d: %s", e.Code, e.Message) }

// contractFailure matches what nodes say when a contract ends a call otherwise than
// by returning: a revert, the INVALID opcode, no more gas, and each of the other
// exceptions of the yellow paper. Every node has words and codes of its own, which
// TestWhatAContractDoesIsNoOutage lists.
var contractFailure = regexp.MustCompile(`(?i)revert|invalid opcode|out of gas|evm error [a-z]+$|` +
	`vm (execution|exception)|stack (underflow|limit|overflow)|invalid jump|` +
	`write protection|return data out of bounds|gas uint64 overflow|max (call depth|code size|initcode size)|` +
	`contract address collision|invalid code`)

// isOfContract reports whether the contract failed the call, and not the node.
func (e *rpcError) isOfContract() bool { return e.Code == 3 || contractFailure.MatchString(e.Message) }

// isRefusal reports whether the node doesn't take a request of this form.
func (e *rpcError) isRefusal() bool { return e.Code == -32602 || e.Code == -32601 || e.Code == -32600 }

// request makes one JSON-RPC request and decodes its result.
func (c *Contracts) request(ctx context.Context, node string, into any, method string, params ...any) error {
	return c.requestUpTo(ctx, maxResponseBytes, node, into, method, params...)
}

// requestUpTo is request for a response of up to maxBytes.
func (c *Contracts) requestUpTo(ctx context.Context, maxBytes int64, node string, into any, method string,
	params ...any) error {
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
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	switch {
	case err != nil:
		return err
	case int64(len(text)) > maxBytes:
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
