// Package tokenlist reads the tokens of a deployment from a file in the format
// of a Token List (tokenlists.org): {"tokens":[{"chainId","address","symbol",
// "name","decimals"}]}. A token at the zero address is the chain's native coin.
// A token with the tag "unverified" is synced, but does not count in totals.
//
// Published lists are taken as they are: entries of chains that are not EVM chains are
// left out and counted; the native coin under a contract's address is left out too,
// since it would be counted twice; a token without a symbol gets its address for one;
// of several entries of one account the first counts.
package tokenlist

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

type entry struct {
	ChainID  uint64   `json:"chainId"`
	Address  string   `json:"address"`
	Symbol   string   `json:"symbol"`
	Name     string   `json:"name"`
	Decimals *int     `json:"decimals"`
	Tags     []string `json:"tags"`
}

// List is what a file lists.
type List struct {
	Tokens []token.Token
	// Foreign is how many entries were left out as those of chains that are not EVM
	// chains, by their chainId: published lists number Solana, for example, as they
	// like.
	Foreign map[uint64]int
	// NativeContracts are the ids of entries that were left out because they are the
	// native coin under the address of a contract.
	NativeContracts []string
	// Repeated is how many entries were left out because the same file has an earlier one of the same account.
	Repeated int
}

// ReadAll returns what the files list together, in their order. Of entries of one account in several files the first
// counts, which Repeated doesn't count. The error joins those of all files.
func ReadAll(paths []string) (List, error) {
	all, seen := List{Foreign: map[uint64]int{}}, map[string]bool{}
	var failures []error
	for _, path := range paths {
		list, err := Read(path)
		failures = append(failures, err)
		for _, t := range list.Tokens {
			if !seen[t.ID] {
				seen[t.ID] = true
				all.Tokens = append(all.Tokens, t)
			}
		}
		for chain, n := range list.Foreign {
			all.Foreign[chain] += n
		}
		all.NativeContracts = append(all.NativeContracts, list.NativeContracts...)
		all.Repeated += list.Repeated
	}
	return all, errors.Join(failures...)
}

// Read returns what the file lists. The error joins all errors in it.
func Read(path string) (List, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return List{}, fmt.Errorf("token list: %w", err)
	}
	var file struct {
		Tokens []entry `json:"tokens"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return List{}, fmt.Errorf("token list %s: %w", path, err)
	}
	var failures []error
	list := List{Foreign: map[uint64]int{}}
	seen := map[string]bool{}
	for i, e := range file.Tokens {
		if isForeign(e.Address) {
			list.Foreign[e.ChainID]++
			continue
		}
		t, err := e.token()
		if err == nil && isNativeContract(t) {
			list.NativeContracts = append(list.NativeContracts, t.ID)
			continue
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("token list %s: tokens[%d] (%s): %w", path, i, e.Symbol, err))
			continue
		}
		if seen[t.ID] {
			list.Repeated++
			continue
		}
		seen[t.ID] = true
		list.Tokens = append(list.Tokens, t)
	}
	return list, errors.Join(failures...)
}

// WithNative returns the tokens and, for each of the chains without an entry for it,
// the native coin: published lists have none, and a wallet without its coin would be
// worth too little.
func WithNative(tokens []token.Token, chains []uint64) []token.Token {
	listed := map[uint64]bool{}
	for _, t := range tokens {
		listed[t.Chain] = listed[t.Chain] || t.Native
	}
	all := slices.Clone(tokens)
	for _, chain := range chains {
		if listed[chain] {
			continue
		}
		name, symbol := caip.ChainName(chain)
		if symbol == "" {
			name, symbol = caip.ChainID(chain), "NATIVE"
		}
		asset := caip.NativeAsset(chain)
		all = append(all, token.Token{ID: asset.String(), Chain: chain, Native: true, Symbol: symbol,
			Name: "Native coin of " + name, Decimals: nativeDecimals, Verified: true})
	}
	return all
}

// nativeDecimals are those of every EVM chain's native coin: the EVM counts in wei.
const nativeDecimals = 18

// otherAddress matches addresses of other chains than EVM chains: base58, as of Solana
// and Tron; more than 20 bytes, as of Starknet, Sui and Aptos; and Move's types.
var otherAddress = regexp.MustCompile(`^([1-9A-HJ-NP-Za-km-z]{32,44}|0x[0-9a-fA-F]{41,64}|0x[0-9a-fA-F]+::.+)$`)

func isForeign(address string) bool { return otherAddress.MatchString(address) }

// commonNative is how some lists write the native coin of any chain.
var commonNative = common.HexToAddress("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE")

// isNativeContract reports whether a token is the native coin under the address of a
// contract whose balances are those of the coin.
func isNativeContract(t token.Token) bool {
	contracts := map[uint64]string{
		137:   "0x0000000000000000000000000000000000001010", // Polygon's POL
		42220: "0x471EcE3750Da237f93B8E339c536989b8978a438", // Celo's CELO
		44787: "0xF194afDf50B03e69Bd7D057c1Aa9e10c9954E4C9", // Celo's test network Alfajores
		324:   "0x000000000000000000000000000000000000800A", // ZKsync Era's ether
		1088:  "0xDeadDeAddeAddEAddeadDEaDDEAdDeaDDeAD0000", // Metis' METIS
		5000:  "0xDeadDeAddeAddEAddeadDEaDDEAdDeaDDeAD0000", // Mantle's MNT
		1284:  "0x0000000000000000000000000000000000000802", // Moonbeam's GLMR
		1285:  "0x0000000000000000000000000000000000000802", // Moonriver's MOVR
	}
	return !t.Native && t.Contract == common.HexToAddress(contracts[t.Chain])
}

func (e entry) token() (token.Token, error) {
	e.Symbol, e.Name = strings.TrimSpace(e.Symbol), strings.TrimSpace(e.Name)
	address, err := caip.ParseAddress(e.ChainID, e.Address)
	switch {
	case e.ChainID == 0 || e.ChainID >= 1<<63:
		return token.Token{}, caip.ErrChain
	case err != nil:
		return token.Token{}, err
	case e.Decimals == nil || *e.Decimals < 0 || *e.Decimals > 255:
		return token.Token{}, errors.New("decimals must be 0 to 255")
	case !printable(e.Symbol) || !printable(e.Name):
		return token.Token{}, fmt.Errorf("symbol and name (0 to %d bytes) must have no control characters",
			token.MaxTextBytes)
	}
	if e.Symbol == "" { // which Token Lists allow
		e.Symbol = token.ShortAddress(address)
	}
	asset := caip.Asset{Chain: e.ChainID, Contract: address}
	if address == (common.Address{}) || address == commonNative {
		asset = caip.NativeAsset(e.ChainID)
	}
	return token.Token{
		ID: asset.String(), Chain: e.ChainID, Native: asset.Native, Contract: asset.Contract,
		Symbol: e.Symbol, Name: e.Name, Decimals: uint8(*e.Decimals),
		Verified: !slices.Contains(e.Tags, "unverified"),
	}, nil
}

func printable(s string) bool {
	return len(s) <= token.MaxTextBytes && !strings.ContainsFunc(s, unicode.IsControl)
}
