// Package tokenlist reads the tokens of a deployment from a file in the format
// of a Token List (tokenlists.org): {"tokens":[{"chainId","address","symbol",
// "name","decimals"}]}. A token at the zero address is the chain's native coin.
// A token with the tag "unverified" is synced, but does not count in totals.
package tokenlist

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// maxTextBytes is how long a symbol and a name may be.
const maxTextBytes = 100

type entry struct {
	ChainID  uint64   `json:"chainId"`
	Address  string   `json:"address"`
	Symbol   string   `json:"symbol"`
	Name     string   `json:"name"`
	Decimals *int     `json:"decimals"`
	Tags     []string `json:"tags"`
}

// Read returns the tokens in the file. The error joins all errors in it.
func Read(path string) ([]token.Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token list: %w", err)
	}
	var list struct {
		Tokens []entry `json:"tokens"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("token list %s: %w", path, err)
	}
	var failures []error
	tokens := make([]token.Token, 0, len(list.Tokens))
	seen := map[string]bool{}
	for i, e := range list.Tokens {
		t, err := e.token()
		if err == nil && seen[t.ID] {
			err = errors.New("is listed twice")
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("token list %s: tokens[%d] (%s): %w", path, i, e.Symbol, err))
			continue
		}
		seen[t.ID] = true
		tokens = append(tokens, t)
	}
	return tokens, errors.Join(failures...)
}

func (e entry) token() (token.Token, error) {
	e.Symbol, e.Name = strings.TrimSpace(e.Symbol), strings.TrimSpace(e.Name)
	address, err := caip.ParseAddress(e.Address)
	switch {
	case e.ChainID == 0 || e.ChainID >= 1<<63:
		return token.Token{}, caip.ErrChain
	case err != nil:
		return token.Token{}, err
	case e.Decimals == nil || *e.Decimals < 0 || *e.Decimals > 255:
		return token.Token{}, errors.New("decimals must be 0 to 255")
	case e.Symbol == "" || !printable(e.Symbol) || !printable(e.Name):
		return token.Token{}, fmt.Errorf("symbol (1 to %d bytes) and name (0 to %d) must have no control characters",
			maxTextBytes, maxTextBytes)
	}
	asset := caip.Asset{Chain: e.ChainID, Contract: address}
	if address == (common.Address{}) {
		asset = caip.Asset{Chain: e.ChainID, Native: true, Coin: coinType(e.ChainID)}
	}
	return token.Token{
		ID: asset.String(), Chain: e.ChainID, Native: asset.Native, Contract: asset.Contract,
		Symbol: e.Symbol, Name: e.Name, Decimals: uint8(*e.Decimals),
		Verified: !slices.Contains(e.Tags, "unverified"),
	}, nil
}

func printable(s string) bool {
	return len(s) <= maxTextBytes && !strings.ContainsFunc(s, unicode.IsControl)
}

// coinType returns the SLIP-44 number of a chain's native coin: ether's unless the
// chain has a coin of its own.
func coinType(chain uint64) uint32 {
	switch chain {
	case 56:
		return 714
	case 100:
		return 700
	case 137:
		return 966
	case 43114:
		return 9005
	default:
		return 60
	}
}
