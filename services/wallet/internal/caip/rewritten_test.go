package caip_test

import (
	"regexp"
	"testing"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

const contract = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48" // USDC on Ethereum

// written is the id that an error says to write.
var written = regexp.MustCompile(`(?:write|for example) "([^"]+)"(?:$| on Ethereum$)`)

// Somebody writes what the error says, until there is none.
func TestWhoeverWritesWhatAnErrorSaysHasARightID(t *testing.T) {
	account := func(s string) error { _, err := caip.ParseAccount(s); return err }
	asset := func(s string) error { _, err := caip.ParseAsset(s); return err }
	chain := func(s string) error { _, err := caip.ParseChainID(s); return err }
	for name, tc := range map[string]struct {
		parse    func(string) error
		in, want string
	}{
		"a token's symbol":                        {asset, "ETH", "eip155:1/slip44:60"},
		"the symbol of another chain's coin":      {asset, "POL", "eip155:137/slip44:966"},
		"a contract alone":                        {asset, contract, "eip155:1/erc20:" + contract},
		"a contract as price feeds have it":       {asset, "ethereum:" + contract, "eip155:1/erc20:" + contract},
		"a contract behind a chain's number":      {asset, "137:" + contract, "eip155:137/erc20:" + contract},
		"an account for a token":                  {asset, "eip155:1:" + contract, "eip155:1/erc20:" + contract},
		"a contract without its kind":             {asset, "eip155:1/" + contract, "eip155:1/erc20:" + contract},
		"a slash for the colon":                   {asset, "eip155:1/erc20/" + contract, "eip155:1/erc20:" + contract},
		"a colon for the slash":                   {asset, "eip155:1:erc20:" + contract, "eip155:1/erc20:" + contract},
		"a kind in upper case":                    {asset, "eip155:1/ERC20:" + contract, "eip155:1/erc20:" + contract},
		"a chain for its coin":                    {asset, "eip155:100", "eip155:100/slip44:700"},
		"a token for an account":                  {account, "eip155:1/erc20:" + contract, "eip155:1:" + contract},
		"an account alone":                        {account, contract, "eip155:1:" + contract},
		"an account behind a hexadecimal chain":   {account, "0x89:" + contract, "eip155:137:" + contract},
		"an account behind a chain's number":      {account, "10:" + contract, "eip155:10:" + contract},
		"an account with a slash":                 {account, "eip155:1/" + contract, "eip155:1:" + contract},
		"an account in another namespace's case":  {account, "Eip155:1:" + contract, "eip155:1:" + contract},
		"a chain as wallets in browsers write it": {chain, "0x89", "eip155:137"},
		"a chain's name":                          {chain, "Polygon", "eip155:137"},
		"an account for its chain":                {chain, "eip155:10:" + contract, "eip155:10"},
		"a token for its chain":                   {chain, "eip155:10/slip44:60", "eip155:10"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.parse(tc.in)
			if err == nil {
				t.Fatalf("%q is accepted", tc.in)
			}
			found := written.FindStringSubmatch(err.Error())
			if found == nil || found[1] != tc.want {
				t.Fatalf("want it to say to write %q: %v", tc.want, err)
			}
			if err := tc.parse(found[1]); err != nil {
				t.Errorf("what it says to write is refused: %v", err)
			}
		})
	}
}

// What can't be told is not guessed.
func TestNothingIsGuessed(t *testing.T) {
	for _, s := range []string{"USDC", "usdc.eth", "cosmos:1/slip44:118", "coingecko:ethereum",
		"eip155:1/erc721:" + contract, "eip155:0", "ethereum:" + contract[:40], "eip155:1:erc20:" + contract + ":1",
		":", "//", "eip155"} {
		if _, err := caip.ParseAsset(s); err == nil || written.MatchString(err.Error()) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
