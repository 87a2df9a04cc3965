// Package tokenlist writes the tokens of the local chain in the shape of a Uniswap
// token list (https://tokenlists.org, schema version 1), which is how wallets and
// exchanges publish the tokens that they vouch for.
//
// Every token of the chain is listed, and ether at the zero address.
package tokenlist

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/purserhq/purser/services/devstack/chain"
)

// List is a token list.
type List struct {
	Name      string    `json:"name"`
	Timestamp time.Time `json:"timestamp"`
	Version   Version   `json:"version"`
	Tokens    []Token   `json:"tokens"`
}

// Version is the list's own version: major rises when tokens go, minor when tokens
// come, patch when their details change.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Patch int `json:"patch"`
}

// Token is an entry of a list.
type Token struct {
	ChainID  uint64 `json:"chainId"`
	Address  string `json:"address"` // EIP-55
	Symbol   string `json:"symbol"`
	Name     string `json:"name"`
	Decimals uint8  `json:"decimals"`
}

// New makes the list of the given tokens, as of the given time.
func New(chainID uint64, at time.Time, tokens []chain.Token) List {
	l := List{
		Name:      "Purser local chain",
		Timestamp: at.UTC().Truncate(time.Second),
		Version:   Version{Major: 1},
		Tokens: []Token{{
			ChainID: chainID, Address: chain.Native().Hex(), Symbol: "ETH", Name: "Ether (local)", Decimals: 18,
		}},
	}
	for _, t := range tokens {
		entry := Token{ChainID: chainID, Address: t.Address.Hex(), Symbol: t.Symbol, Name: t.Name,
			Decimals: t.Decimals}
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
