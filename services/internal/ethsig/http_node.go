package ethsig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/redact"
)

// httpNode is a node that is asked over HTTP. Its chain is checked each time, since another node may answer behind the
// same URL.
type httpNode struct {
	chainID uint64
	url     string
	client  *http.Client
}

// Check implements Node.
func (n httpNode) Check(ctx context.Context) error {
	var id string
	if err := n.Call(ctx, &id, "eth_chainId"); err != nil {
		return err
	}
	if is, err := strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64); err != nil || is != n.chainID {
		return errors.New("the node serves another chain")
	}
	return nil
}

// Head implements Node.
func (n httpNode) Head(ctx context.Context) (time.Time, error) {
	var head struct {
		Timestamp string `json:"timestamp"`
	}
	if err := n.Call(ctx, &head, "eth_getBlockByNumber", "latest", false); err != nil {
		return time.Time{}, fmt.Errorf("newest block: %w", err)
	}
	const maxTime = 1 << 40 // later than any block's, and far below where time.Time overflows
	seconds, err := strconv.ParseUint(strings.TrimPrefix(head.Timestamp, "0x"), 16, 64)
	if err != nil || seconds > maxTime {
		return time.Time{}, errors.New("the newest block has no time, or one out of range")
	}
	return time.Unix(int64(seconds), 0), nil
}

// Redact implements Node.
func (n httpNode) Redact(err error) error { return redact.Error(err, n.url) }

// Call implements Node.
func (n httpNode) Call(ctx context.Context, into any, method string, params ...any) error {
	// Of code only the beginning matters, but nodes return all of it, up to 24 KiB (EIP-170) in hexadecimal; and of a
	// block the hashes of its transactions.
	maxBytes := int64(maxResponseBytes)
	switch method {
	case "eth_getCode":
		maxBytes += 2 * (24 << 10)
	case "eth_getBlockByNumber":
		maxBytes = 4 << 20
	}
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("prepare request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	switch {
	case err != nil:
		return err
	case int64(len(text)) > maxBytes:
		return errTooLarge
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
