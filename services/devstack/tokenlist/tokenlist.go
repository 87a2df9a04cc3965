// Package tokenlist writes the tokens of the local chain in the shape of a Uniswap
// token list (https://tokenlists.org, schema version 1), which is how wallets and
// exchanges publish the tokens that they vouch for.
//
// Tokens that the chain calls verified carry the tag "verified"; the others are
// listed without it.
package tokenlist

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/purserhq/purser/services/devstack/chain"
)

// VerifiedTag marks the tokens that are vouched for.
const VerifiedTag = "verified"

// List is a token list.
type List struct {
	Name      string         `json:"name"`
	Timestamp time.Time      `json:"timestamp"`
	Version   Version        `json:"version"`
	Tags      map[string]Tag `json:"tags"`
	Tokens    []Token        `json:"tokens"`
}

// Version is the list's own version: major rises when tokens go, minor when tokens
// come, patch when their details change.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Patch int `json:"patch"`
}

// Tag explains a tag.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// Token is an entry of a list.
type Token struct {
	ChainID  uint64 `json:"chainId"`
	Address  string `json:"address"` // EIP-55
	Symbol   string `json:"symbol"`
	Name     string `json:"name"`
	Decimals uint8  `json:"decimals"`
	// Tags are names of the list's tags.
	Tags []string `json:"tags,omitempty"`
}

// New makes the list of the given tokens, as of the given time.
func New(chainID uint64, at time.Time, tokens []chain.Token) List {
	l := List{
		Name:      "Purser local chain",
		Timestamp: at.UTC().Truncate(time.Second),
		Version:   Version{Major: 1},
		Tags: map[string]Tag{
			VerifiedTag: {Name: "Verified", Description: "A seeded token that has prices"},
		},
	}
	for _, t := range tokens {
		entry := Token{ChainID: chainID, Address: t.Address.Hex(), Symbol: t.Symbol, Name: t.Name, Decimals: t.Decimals}
		if t.Verified {
			entry.Tags = []string{VerifiedTag}
		}
		l.Tokens = append(l.Tokens, entry)
	}
	return l
}

// JSON is the list as a file.
func (l List) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("tokenlist: %w", err)
	}
	return append(raw, '\n'), nil
}
