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
	"net/url"
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

// IsNode reports whether text is a URL that the wallet service reads nodes by: http, https, ws or wss.
func IsNode(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme)
}

// Check returns an error for each URL that is not an http or https URL. It names
// the variable, the chain and the place of the node, and shows no URL.
func (n Nodes) Check(variable string) error {
	return n.check(func(text string) string {
		switch {
		case config.IsHTTPURL(text):
			return ""
		case IsNode(text):
			return "must be an http or https URL: only the wallet service reads nodes over WebSocket"
		}
		return "must be an http or https URL"
	}, variable)
}

// CheckWithSockets is Check for a service that reads nodes over WebSocket too: ws and wss URLs are no error.
func (n Nodes) CheckWithSockets(variable string) error {
	return n.check(func(text string) string {
		if IsNode(text) {
			return ""
		}
		return "must be an http, https, ws or wss URL"
	}, variable)
}

// check returns an error for each URL with which something is wrong.
func (n Nodes) check(wrong func(url string) string, variable string) error {
	var errs []error
	for _, chain := range slices.Sorted(maps.Keys(n)) {
		for i, node := range n[chain] {
			if rule := wrong(node); rule != "" {
				errs = append(errs, fmt.Errorf("%s: node %d of chain %d %s", variable, i+1, chain, rule))
			}
		}
	}
	return errors.Join(errs...)
}

// Quorum is how many nodes of a chain have to say the same, as "1=2,137=2".
type Quorum map[uint64]int

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *Quorum) UnmarshalText(text []byte) error {
	*q = Quorum{}
	var invalid error
	err := ParsePairs(string(text), func(chain uint64, value string) {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			invalid = errors.Join(invalid, fmt.Errorf("chain %d: %q must be a number of nodes, at least 1", chain,
				value))
		}
		if _, twice := (*q)[chain]; twice {
			invalid = errors.Join(invalid, fmt.Errorf("chain %d stands there twice", chain))
		}
		(*q)[chain] = n
	})
	return errors.Join(err, invalid)
}

// Check returns an error for each chain that has fewer nodes than have to agree, and for each that has the same node
// twice, which would agree with itself. variable is that of the quorum, nodesVariable that of the nodes.
func (q Quorum) Check(variable, nodesVariable string, n Nodes) error {
	var errs []error
	for _, chain := range slices.Sorted(maps.Keys(q)) {
		if nodes := len(n[chain]); q[chain] > nodes {
			errs = append(errs, fmt.Errorf("%s: %d nodes of chain %d have to agree, and %s has %d of it", variable,
				q[chain], chain, nodesVariable, nodes))
		}
		if q[chain] < 2 {
			continue
		}
		place := map[string]int{}
		for i, node := range n[chain] {
			u, err := url.Parse(node)
			if err != nil {
				continue // Nodes.Check says so
			}
			if first := place[u.Host]; first > 0 {
				errs = append(errs, fmt.Errorf("%s: nodes %d and %d of chain %d are on the same host, and %s needs "+
					"those of different ones to agree", nodesVariable, first, i+1, chain, variable))
			}
			place[u.Host] = i + 1
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
