package caip

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/errs"
)

// idError is one of this package's errors, with what is wrong with the id that was
// given.
type idError struct {
	rule error
	text string
}

func (f *idError) Error() string { return f.rule.Error() + "; " + f.text }

// Unwrap returns the rule.
func (f *idError) Unwrap() error { return f.rule }

var (
	bareAddress = regexp.MustCompile(`^0[xX][0-9a-fA-F]{40}$`)
	bareChain   = regexp.MustCompile(`^[0-9]+$`)
	keyOrHash   = regexp.MustCompile(`^(0x)?[0-9a-fA-F]{64}$`)
	domainName  = regexp.MustCompile(`^[^\s:/]+\.[a-z]{2,}$`)
)

// knownNames are chains as people write them in place of their ids.
func knownNames() map[string]uint64 {
	return map[string]uint64{"ethereum": 1, "eth": 1, "mainnet": 1, "optimism": 10, "oeth": 10, "op": 10, "bsc": 56,
		"bnb": 56, "gnosis": 100, "gno": 100, "xdai": 100, "polygon": 137, "matic": 137, "pol": 137, "base": 8453,
		"rootstock": 30, "rsk": 30, "arbitrum": 42161, "arb1": 42161, "avalanche": 43114, "avax": 43114}
}

// otherNamespaces are those of CAIP-2 whose chains are not EVM chains.
func otherNamespaces() []string {
	return []string{"bip122", "cosmos", "solana", "polkadot", "starknet", "tezos", "near", "stellar", "sui", "aptos"}
}

// explainForm says what an id, which has not the form of its rule, is instead.
func explainForm(s string, wanted kind) string {
	trimmed := strings.TrimSpace(s)
	namespace, after, _ := strings.Cut(trimmed, ":")
	chain, isName := knownNames()[strings.ToLower(namespace)]
	given, hint := errs.Given(s), rewritten(s, wanted)
	isENS := domainName.MatchString(s) || domainName.MatchString(lastPart(s))
	switch {
	case s == "":
		return given
	case len(strings.Fields(s)) >= 12:
		return fmt.Sprintf("got %d words: a recovery phrase must be given to nobody", len(strings.Fields(s)))
	case trimmed != s:
		return given + ": remove the white space around it"
	case keyOrHash.MatchString(s):
		return keyGiven
	case wanted == anAsset && symbol.MatchString(s) && !isENS && !strings.EqualFold(s, Namespace):
		return explainSymbol(s)
	case bareAddress.MatchString(s) && wanted == anAccount:
		return given + ", an address without its chain: put the chain's id before it, for example " +
			strconv.Quote(ChainID(1)+":"+s) + " on Ethereum"
	case bareChain.MatchString(s):
		return given + ": put " + strconv.Quote(Namespace+":") + " before the number"
	case isENS:
		return given + nameGiven
	case hint != "" && (!isName || wanted != anAccount):
		return hint
	case isName:
		return fmt.Sprintf("%s: write %q in place of %q", given, ChainID(chain), namespace)
	case strings.EqualFold(namespace, Namespace) && namespace != Namespace:
		return fmt.Sprintf("%s: write %q in lower case", given, Namespace)
	case bareChain.MatchString(namespace) && after != "":
		return given + ": put " + strconv.Quote(Namespace+":") + " before the chain's number"
	case slices.Contains(otherNamespaces(), namespace):
		return fmt.Sprintf("%s, of %q: only EVM chains, %q, are supported", given, namespace, Namespace)
	case namespace == Namespace && !strings.ContainsAny(after, ":/") && wanted == anAccount:
		return given + ", a chain alone: put " + strconv.Quote(":<address>") + " behind it"
	}
	return given
}

// lastPart is what follows the last colon or slash.
func lastPart(s string) string {
	return s[strings.LastIndexAny(s, ":/")+1:]
}

// explainChain says what is wrong with a chain reference.
func explainChain(s string) string {
	given := errs.Given(s)
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		if n, err := strconv.ParseUint(hex, 16, 63); err == nil && n > 0 {
			return fmt.Sprintf("%s, a hexadecimal number: write %d", given, n)
		}
	}
	if chain, ok := knownNames()[strings.ToLower(s)]; ok {
		return fmt.Sprintf("%s, a name: write %d", given, chain)
	}
	if n, err := strconv.ParseUint(s, 10, 63); err == nil && n > 0 {
		return fmt.Sprintf("%s, with leading zeros or a sign: write %d", given, n)
	}
	return given
}

const (
	nameGiven = ", a name: names such as those of ENS are not looked up; resolve it, and give the address"
	keyGiven  = "got 64 hexadecimal digits, as a private key or a hash has: a private key must be given to nobody"
)

// explainAddress says what is wrong with an address.
func explainAddress(s string) string {
	digits, prefixed := strings.CutPrefix(s, "0x")
	for i, r := range digits {
		if !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return explainCharacter(s, digits, i, r, prefixed)
		}
	}
	switch n := len(digits); {
	case !prefixed && n == 2*common.AddressLength:
		return errs.Given(s) + ": put 0x before it"
	case prefixed && n == 64:
		return keyGiven
	default:
		return fmt.Sprintf("%s, with %d digits", errs.Given(s), n)
	}
}

// explainCharacter is about an address with a character r that is no digit, at byte
// i of its digits.
func explainCharacter(s, digits string, i int, r rune, prefixed bool) string {
	given := errs.Given(s)
	switch {
	case strings.TrimSpace(s) != s:
		return given + ": remove the white space around it"
	case domainName.MatchString(s):
		return given + nameGiven
	case !prefixed && strings.HasPrefix(s, "0X"):
		return given + ": write 0x with a small x"
	case !prefixed && strings.HasPrefix(strings.ToLower(s), "ox"):
		return given + ", which begins with the letter O: write 0x with the digit"
	}
	at := 1 + utf8.RuneCountInString(digits[:i]) + len(s) - len(digits)
	if r == 'O' || r == 'o' {
		return fmt.Sprintf("%s, whose character %d is the letter O, perhaps for the digit", given, at)
	}
	if r > unicode.MaxASCII {
		return fmt.Sprintf("%s, whose character %d is %U, which only looks like a digit if at all", given, at, r)
	}
	return fmt.Sprintf("%s, whose character %d is %q", given, at, r)
}

// DevelopmentChain is the chain id that nodes for development have unless they are told another one.
const DevelopmentChain = 31337

// ChainName returns the name of a well-known chain and the symbol of its native
// coin, after the list of ethereum-lists/chains; "" for another.
func ChainName(chain uint64) (name, symbol string) {
	known := map[uint64][2]string{
		1: {"Ethereum", "ETH"}, 10: {"OP Mainnet", "ETH"}, 56: {"BNB Smart Chain", "BNB"}, 100: {"Gnosis", "XDAI"},
		137: {"Polygon", "POL"}, 8453: {"Base", "ETH"}, 42161: {"Arbitrum One", "ETH"},
		43114: {"Avalanche C-Chain", "AVAX"}, DevelopmentChain: {"Local development chain", "ETH"},
		11155111: {"Sepolia", "ETH"}, 17000: {"Holesky", "ETH"}, 560048: {"Hoodi", "ETH"},
		59144: {"Linea", "ETH"}, 324: {"ZKsync Era", "ETH"}, 534352: {"Scroll", "ETH"}, 42220: {"Celo", "CELO"},
		30: {"Rootstock", "RBTC"}, 31: {"Rootstock Testnet", "tRBTC"},
	}
	return known[chain][0], known[chain][1]
}
