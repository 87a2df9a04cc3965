package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/services/internal/dependency"
)

const (
	// MaxHeadAge is how old a node's newest block may be; older, the node has
	// stopped following its chain.
	MaxHeadAge = time.Hour
	// maxClockSkew is how far a block's time may be in the future, as in wallet.
	maxClockSkew = 2 * time.Minute
)

// Head is the newest block of a node.
type Head struct {
	Number uint64
	Time   time.Time
}

// Node asks a JSON-RPC node of an EVM chain for its chain id (EIP-695) and its newest
// block. The error's reason is WRONG_CHAIN for a node of another chain,
// HEAD_IN_FUTURE or HEAD_TOO_OLD for a newest block that is not of now, and that of
// the network otherwise.
func Node(ctx context.Context, url string, chain uint64) (Head, error) {
	if err := ChainID(ctx, url, chain); err != nil {
		return Head{}, err
	}
	var head *struct {
		Number    string `json:"number"`
		Timestamp string `json:"timestamp"`
	}
	if err := call(ctx, url, &head, "eth_getBlockByNumber", "latest", false); err != nil {
		return Head{}, err
	}
	if head == nil {
		return Head{}, invalid("the node has no newest block")
	}
	number, err := quantity(head.Number)
	if err != nil {
		return Head{}, invalid("the number of the newest block is %.40q", head.Number)
	}
	seconds, err := quantity(head.Timestamp)
	if err != nil || seconds > 1<<40 {
		return Head{}, invalid("the time of the newest block is %.40q", head.Timestamp)
	}
	h := Head{Number: number, Time: time.Unix(int64(seconds), 0).UTC()}
	switch age := time.Since(h.Time); {
	case age < -maxClockSkew:
		return h, dependency.Failed("HEAD_IN_FUTURE", fmt.Errorf("the newest block, %d, is of %s, in the future",
			h.Number, h.Time.Format(time.RFC3339)))
	case age > MaxHeadAge:
		return h, dependency.Failed("HEAD_TOO_OLD", fmt.Errorf("the newest block, %d, is of %s, %s ago", h.Number,
			h.Time.Format(time.RFC3339), age.Round(time.Second)))
	}
	return h, nil
}

// IsOld reports whether an error of Node is that the newest block is too old.
func IsOld(err error) bool {
	var failed *dependency.Error
	return errors.As(err, &failed) && failed.Reason == "HEAD_TOO_OLD"
}

// ChainID asks a node whether it is of this chain.
func ChainID(ctx context.Context, url string, chain uint64) error {
	var text string
	if err := call(ctx, url, &text, "eth_chainId"); err != nil {
		return err
	}
	id, err := quantity(text)
	if err != nil {
		return invalid("the chain id is %.40q", text)
	}
	if id != chain {
		return dependency.Failed("WRONG_CHAIN", fmt.Errorf("the node is of chain %d, not %d", id, chain))
	}
	return nil
}

// HasCode asks a node whether a contract is deployed at an address, 0x….
func HasCode(ctx context.Context, url, address string) (bool, error) {
	var code string
	if err := call(ctx, url, &code, "eth_getCode", address, "latest"); err != nil {
		return false, err
	}
	return len(code) > len("0x"), nil
}

// call makes a JSON-RPC request. An error of the node is one of its answers.
func call(ctx context.Context, url string, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	var response struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	request := map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
	if err := post(ctx, url, request, &response); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if response.Error != nil {
		return dependency.Failed("NODE_ERROR", fmt.Errorf("%s: error %d: %.200s", method, response.Error.Code,
			response.Error.Message))
	}
	if len(response.Result) == 0 || json.Unmarshal(response.Result, into) != nil {
		return invalid("%s: the result is %.40q", method, response.Result)
	}
	return nil
}

// quantity reads a hex number as JSON-RPC has it.
func quantity(text string) (uint64, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(digits, 16, 64)
}
