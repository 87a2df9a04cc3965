// Package caip parses and formats the ids of chains (CAIP-2), accounts (CAIP-10)
// and assets (CAIP-19) of EVM chains (namespace eip155).
//
// An address may be in lower case, in upper case, or in mixed case with the correct
// checksum of its chain: that of EIP-1191 on Rootstock (chains 30 and 31), that of
// EIP-55 on others. A wrong checksum is refused, since it is most likely a typing
// error. Ids are stored in lower case and displayed with such checksums.
package caip

import (
	"errors"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/errs"
)

// Namespace of EVM chains.
const Namespace = "eip155"

// The rules of parsing. An error wraps the one that an id breaks and adds what was
// given and how to mend it, fit for a caller.
var (
	ErrForm = errors.New("must be a CAIP-10 account of an EVM chain, for example " +
		`"eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"`)
	ErrChainForm = errors.New(`must be a CAIP-2 id of an EVM chain, for example "eip155:1"`)
	ErrChain     = errors.New("chain reference must be a decimal number from 1 to 2^63-1")
	ErrAddress   = errors.New("address must be 0x and 40 hexadecimal digits")
	ErrChecksum  = errors.New("address must have the checksum of EIP-55 (on chains 30 and 31 of EIP-1191) in the " +
		"case of its letters, or be in lower case")
	ErrAssetForm = errors.New("must be a CAIP-19 id of an EVM token, for example " +
		`"eip155:1/slip44:60" or "eip155:1/erc20:0x…"`)
)

// Account is an account of an EVM chain.
type Account struct {
	Chain   uint64
	Address common.Address
}

// ParseAccount parses a CAIP-10 id. The error is one of this package's.
func ParseAccount(s string) (Account, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[0] != Namespace || strings.Contains(s, "/") {
		return Account{}, &idError{ErrForm, explainForm(s, anAccount)}
	}
	chain, err := parseChain(parts[1])
	if err != nil {
		return Account{}, err
	}
	address, err := ParseAddress(chain, parts[2])
	if err != nil {
		return Account{}, err
	}
	return Account{Chain: chain, Address: address}, nil
}

// String returns the CAIP-10 id in lower case.
func (a Account) String() string { return strings.ToLower(a.Display()) }

// Display returns the CAIP-10 id with the address in its chain's checksum form.
func (a Account) Display() string { return ChainID(a.Chain) + ":" + hexOn(a.Chain, a.Address) }

// ChainID returns the CAIP-2 id of an EVM chain.
func ChainID(chain uint64) string { return Namespace + ":" + strconv.FormatUint(chain, 10) }

// ParseChainID parses the CAIP-2 id of an EVM chain. The error is one of this
// package's.
func ParseChainID(s string) (uint64, error) {
	reference, ok := strings.CutPrefix(s, Namespace+":")
	if !ok || strings.ContainsAny(reference, ":/") {
		return 0, &idError{ErrChainForm, explainForm(s, aChain)}
	}
	return parseChain(reference)
}

// ParseAddress parses an address of a chain, and checks its checksum if it is in mixed
// case.
func ParseAddress(chain uint64, s string) (common.Address, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 2*common.AddressLength || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return common.Address{}, &idError{ErrAddress, explainAddress(s)}
	}
	address := common.HexToAddress(s)
	oneCase := digits == strings.ToLower(digits) || digits == strings.ToUpper(digits)
	if !oneCase && hexOn(chain, address) != s {
		return common.Address{}, checksumError(chain, s, address)
	}
	return address, nil
}

// parseChain parses a chain reference without sign or leading zeros, below 2^63.
// (CAIP-2 allows 32 digits; no EVM chain has such an id.)
func parseChain(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, &idError{ErrChain, explainChain(s)}
	}
	return n, nil
}

// Asset is a token contract of an EVM chain, or the chain's native coin.
type Asset struct {
	Chain uint64
	// Native coin by its SLIP-44 number; Contract is zero then.
	Native bool
	Coin   uint32
	// Contract of an ERC-20 token.
	Contract common.Address
}

// ParseAsset parses a CAIP-19 id. The error is one of this package's.
func ParseAsset(s string) (Asset, error) {
	chainPart, assetPart, ok := strings.Cut(s, "/")
	reference, isEVM := strings.CutPrefix(chainPart, Namespace+":")
	if !ok || !isEVM {
		return Asset{}, &idError{ErrAssetForm, explainForm(s, anAsset)}
	}
	chain, err := parseChain(reference)
	if err != nil {
		return Asset{}, err
	}
	kind, id, _ := strings.Cut(assetPart, ":")
	switch kind {
	case "erc20":
		address, err := ParseAddress(chain, id)
		return Asset{Chain: chain, Contract: address}, err
	case "slip44":
		coin, err := strconv.ParseUint(id, 10, 31)
		if err != nil || strconv.FormatUint(coin, 10) != id {
			return Asset{}, &idError{ErrAssetForm, errs.Given(s) + ", whose coin must be a number of SLIP-44, " +
				"for example 60, which is ether"}
		}
		return Asset{Chain: chain, Native: true, Coin: uint32(coin)}, nil
	default:
		if hint := rewritten(s, anAsset); hint != "" {
			return Asset{}, &idError{ErrAssetForm, hint}
		}
		return Asset{}, &idError{ErrAssetForm, errs.Given(s) + `, whose kind must be "slip44" or "erc20"`}
	}
}

// String returns the CAIP-19 id in lower case.
func (a Asset) String() string {
	if a.Native {
		return ChainID(a.Chain) + "/slip44:" + strconv.FormatUint(uint64(a.Coin), 10)
	}
	return ChainID(a.Chain) + "/erc20:" + strings.ToLower(a.Contract.Hex())
}
