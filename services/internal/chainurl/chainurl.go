// Package chainurl reads settings that have a value for each EVM chain: the URLs
// of its JSON-RPC nodes, or a name of it.
//
// Such a setting reads <chain id>=<value>, separated by commas. A chain id is an
// EIP-155 id, 1 to 2^63-1; spaces around ids and values are not part of them.
package chainurl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/purserhq/purser/pkg/config"
)

// Nodes are the URLs of each chain's nodes, in the order to try them, as
// "1=https://a.example,1=https://b.example,137=https://c.example". It prints
// without the URLs, whose paths and queries carry API keys.
type Nodes map[uint64][]string

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Nodes) UnmarshalText(text []byte) error {
	*n = Nodes{}
	return ParsePairs(string(text), func(chain uint64, url string) { (*n)[chain] = append((*n)[chain], url) })
}

// String names the chains, in ascending order, and how many nodes each has.
func (n Nodes) String() string {
	var parts []string
	for _, chain := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d=(%d nodes)", chain, len(n[chain])))
	}
	return strings.Join(parts, ",")
}

// Check returns an error for each URL that is not an http or https URL. It names
// the variable, the chain and the place of the node, and shows no URL.
func (n Nodes) Check(variable string) error {
	var errs []error
	for _, chain := range slices.Sorted(maps.Keys(n)) {
		for i, node := range n[chain] {
			if !config.IsHTTPURL(node) {
				errs = append(errs, fmt.Errorf("%s: node %d of chain %d must be an http or https URL",
					variable, i+1, chain))
			}
		}
	}
	return errors.Join(errs...)
}

// ParsePairs calls add for each pair of a setting such as "1=a,137=b", in its
// order. The error shows nothing of the text.
func ParsePairs(text string, add func(chain uint64, value string)) error {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		chain, err := strconv.ParseUint(strings.TrimSpace(key), 10, 63)
		if !ok || err != nil || chain == 0 || strings.TrimSpace(value) == "" {
			return errors.New("must read <chain id>=<value>, separated by commas, for example 1=https://node.example")
		}
		add(chain, strings.TrimSpace(value))
	}
	return nil
}
