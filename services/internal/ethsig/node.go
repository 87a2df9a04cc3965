package ethsig

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
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

// Node is a JSON-RPC node of a chain, which a contract's answer is asked of. It is safe for concurrent use.
type Node interface {
	// Check returns an error unless the node may be asked now and is of its chain.
	Check(ctx context.Context) error
	// Head returns the time of the node's newest block.
	Head(ctx context.Context) (time.Time, error)
	// Call makes a call and decodes its result. What the node answers as an error is one
	// that has ErrorCode, of JSON-RPC.
	Call(ctx context.Context, result any, method string, args ...any) error
	// Redact returns an error of the node without the secrets of its URL.
	Redact(err error) error
}

// coded is an error that a node answered.
type coded interface {
	error
	ErrorCode() int
}

// call makes a call at the node's latest block and returns the result in
// hexadecimal, "0x" for none. Without a contract, data is the init code of one
// that is created for the call alone, and the result is its code. The error is
// errContractFailed when the call ran and failed.
func call(ctx context.Context, node Node, contract *Address, data []byte) (string, error) {
	call := map[string]string{"from": caller, "gas": callGas, "data": "0x" + hex.EncodeToString(data)}
	if contract != nil {
		call["to"] = contract.Lower()
	}
	var result string
	err := node.Call(ctx, &result, "eth_call", call, "latest")
	if failure := coded(nil); errors.As(err, &failure) && isOfContract(failure) {
		return "", fmt.Errorf("%w: %w", errContractFailed, err)
	}
	if err == nil && len(result) > maxResponseBytes {
		return "", errTooLarge
	}
	return result, err
}

// hasCode reports whether there is a contract at an address.
func hasCode(ctx context.Context, node Node, a Address) (bool, error) {
	var code string
	err := node.Call(ctx, &code, "eth_getCode", a.Lower(), "latest")
	return len(code) > len("0x"), err
}

var errTooLarge = errors.New("the response is too large")

// rpcError is the error of a JSON-RPC response.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string  { return fmt.Sprintf("error %d: %s", e.Code, e.Message) }
func (e *rpcError) ErrorCode() int { return e.Code }

// contractFailure matches what nodes say when a contract ends a call otherwise than
// by returning: a revert, the INVALID opcode, no more gas, and each of the other
// exceptions of the yellow paper. Every node has words and codes of its own, which
// TestWhatAContractDoesIsNoOutage lists.
var contractFailure = regexp.MustCompile(`(?i)revert|invalid opcode|out of gas|evm error [a-z]+$|` +
	`vm (execution|exception)|stack (underflow|limit|overflow)|invalid jump|` +
	`write protection|return data out of bounds|gas uint64 overflow|max (call depth|code size|initcode size)|` +
	`contract address collision|invalid code`)

// isOfContract reports whether the contract failed the call, and not the node.
func isOfContract(e coded) bool { return e.ErrorCode() == 3 || contractFailure.MatchString(e.Error()) }

// isRefusal reports whether the node doesn't take a request of this form.
func isRefusal(e coded) bool {
	return e.ErrorCode() == -32602 || e.ErrorCode() == -32601 || e.ErrorCode() == -32600
}
