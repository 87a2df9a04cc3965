package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ChainURLs are the URLs of the nodes of each chain, in the order to try, as
// "1=https://a,1=https://b,137=https://c". It prints without the URLs, whose
// paths carry API keys.
type ChainURLs map[uint64][]string

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *ChainURLs) UnmarshalText(text []byte) error {
	*c = ChainURLs{}
	return ByChain(string(text), func(chain uint64, url string) { (*c)[chain] = append((*c)[chain], url) })
}

// String names the chains only.
func (c ChainURLs) String() string {
	var parts []string
	for _, chain := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d=(%d nodes)", chain, len(c[chain])))
	}
	return strings.Join(parts, ",")
}

// Check reports every URL that is none of http or https as a mistake of the
// variable.
func (c ChainURLs) Check(variable string) error {
	var mistakes []error
	for _, chain := range slices.Sorted(maps.Keys(c)) {
		for i, node := range c[chain] {
			if !IsHTTPURL(node) {
				mistakes = append(mistakes, fmt.Errorf("%s: node %d of chain %d must be an http or https URL",
					variable, i+1, chain))
			}
		}
	}
	return errors.Join(mistakes...)
}

// ByChain reads "1=a,137=b" and calls add for each pair.
func ByChain(text string, add func(chain uint64, value string)) error {
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
