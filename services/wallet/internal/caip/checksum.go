package caip

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/purserhq/purser/pkg/errs"
)

// chainsWithTheirID are the chains whose addresses have the chain's id in their
// checksum (EIP-1191): Rootstock and its test network, as their wallets write them.
// Other chains use EIP-55, also those that EIP-1191 names beside these.
func chainsWithTheirID() map[uint64]string {
	return map[uint64]string{30: "Rootstock", 31: "Rootstock Testnet"}
}

// hexOn returns an address with the checksum of a chain: the one of EIP-1191 on
// chainsWithTheirID, that of EIP-55 on others.
func hexOn(chain uint64, a common.Address) string {
	if chainsWithTheirID()[chain] == "" {
		return a.Hex()
	}
	text := []byte(strings.ToLower(a.Hex()))
	hash := crypto.Keccak256([]byte(strconv.FormatUint(chain, 10)), text)
	for i := range text[2:] {
		nibble := hash[i/2] >> 4
		if i%2 == 1 {
			nibble = hash[i/2] & 0xf
		}
		if c := &text[i+2]; *c > '9' && nibble >= 8 {
			*c -= 'a' - 'A'
		}
	}
	return string(text)
}

// checksumError says what the checksum of an address in mixed case is, which is not
// that of the chain.
func checksumError(chain uint64, s string, a common.Address) error {
	given := errs.Given(s)
	name := chainsWithTheirID()[chain]
	if name != "" && a.Hex() == s {
		return &idError{ErrChecksum, fmt.Sprintf("%s, which has the checksum of Ethereum (EIP-55): wallets of %s "+
			"write %s, with the chain's id in the checksum (EIP-1191). If it is the right address, give it so or in "+
			"lower case", given, name, hexOn(chain, a))}
	}
	for other, otherName := range chainsWithTheirID() {
		if other != chain && hexOn(other, a) == s {
			return &idError{ErrChecksum, fmt.Sprintf("%s, which has the checksum of %s, chain %d (EIP-1191): is it "+
				"meant to be on that chain? If it is the right address here, give it in lower case", given, otherName,
				other)}
		}
	}
	return &idError{ErrChecksum, given +
		", where a digit or the case of a letter is wrong: compare it with its source, and don't retype it"}
}
