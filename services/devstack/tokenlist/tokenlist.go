// Package tokenlist writes a token list (https://tokenlists.org, schema version 1) with the tokens of the local chain,
// and ether at the zero address.
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

// Version of the list: major rises when tokens are removed, minor when they are added, patch when they change.
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

// New makes a list of these tokens with this timestamp.
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

// JSON returns the content of the list's file.
func (l List) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("tokenlist: %w", err)
	}
	return append(raw, '\n'), nil
}
