package caip

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/pkg/errs"
)

// kind is what an id is of.
type kind int

const (
	aChain kind = iota
	anAccount
	anAsset
)

// symbol is how people write a token in place of its id.
var symbol = regexp.MustCompile(`^[$A-Za-z][$A-Za-z0-9.+-]{1,11}$`)

// explainSymbol is about a symbol, or a chain's name, in place of a token's id.
func explainSymbol(s string) string {
	text := errs.Given(s) + ", a symbol, which any token may have: TokenService.ListTokens has the ids"
	if chain, ok := knownNames()[strings.ToLower(s)]; ok {
		name, _ := ChainName(chain)
		text += fmt.Sprintf("; for the coin of %s write %q", name, NativeAsset(chain))
	}
	return text
}

// rewritten says how to write an id of the wanted kind that means the same as s, which
// is one of another kind or in another notation; "" if there is none.
func rewritten(s string, wanted kind) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '/' })
	if len(parts) > 0 && strings.EqualFold(parts[0], Namespace) {
		parts = parts[1:]
	}
	if len(parts) == 0 {
		return ""
	}
	chain, on := uint64(1), "on Ethereum "
	if !bareAddress.MatchString(parts[0]) {
		var ok bool
		if chain, ok = looseChain(parts[0]); !ok {
			return ""
		}
		parts, on = parts[1:], ""
	}
	if len(parts) > 1 && (strings.EqualFold(parts[0], "erc20") || strings.EqualFold(parts[0], "slip44")) {
		parts[0] = strings.ToLower(parts[0])
	}
	id := ""
	switch {
	case wanted == aChain && on == "":
		id = ChainID(chain)
	case wanted == anAccount && len(parts) > 0:
		id = ChainID(chain) + ":" + parts[len(parts)-1]
	case wanted == anAsset && len(parts) == 0:
		id = NativeAsset(chain).String()
	case wanted == anAsset && len(parts) == 1:
		id = ChainID(chain) + "/erc20:" + parts[0]
	case wanted == anAsset && len(parts) == 2:
		id = ChainID(chain) + "/" + parts[0] + ":" + parts[1]
	}
	if id == s || !readable(id, wanted) {
		return ""
	}
	return errs.Given(s) + ": " + on + "write " + strconv.Quote(id)
}

// looseChain reads a chain as people write it: its number, also in hexadecimal digits,
// or its name.
func looseChain(s string) (uint64, bool) {
	if chain, ok := knownNames()[strings.ToLower(s)]; ok {
		return chain, true
	}
	if chain, err := hexutil.DecodeUint64(strings.ToLower(s)); err == nil && chain > 0 && chain < 1<<63 {
		return chain, true
	}
	chain, err := strconv.ParseUint(s, 10, 63)
	return chain, err == nil && chain > 0
}

// readable reports whether an id is right, without a hint if it is not.
func readable(id string, wanted kind) bool {
	var err error
	switch namespace, rest, _ := strings.Cut(id, ":"); {
	case namespace != Namespace || rest == "":
		return false
	case wanted == aChain:
		_, err = ParseChainID(id)
	case wanted == anAccount:
		_, err = ParseAccount(id)
	case strings.Contains(rest, "/erc20:") || strings.Contains(rest, "/slip44:"):
		_, err = ParseAsset(id)
	default:
		return false
	}
	return err == nil
}
