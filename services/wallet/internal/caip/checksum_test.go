package caip_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// The addresses are EIP-1191's own examples, for chains 30 and 31, and EIP-55's.
func TestAddressesOfRootstockHaveTheChainInTheirChecksum(t *testing.T) {
	forms := map[string][]string{
		"1":  {"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"},
		"30": {"0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD", "0xFb6916095cA1Df60bb79ce92cE3EA74c37c5d359"},
		"31": {"0x5aAeb6053F3e94c9b9A09F33669435E7EF1BEaEd", "0xFb6916095CA1dF60bb79CE92ce3Ea74C37c5D359"},
	}
	for chain, addresses := range forms {
		for i, address := range addresses {
			for _, given := range []string{address, strings.ToLower(address)} {
				a, err := caip.ParseAccount("eip155:" + chain + ":" + given)
				if err != nil || a.Display() != "eip155:"+chain+":"+address ||
					a.String() != strings.ToLower(a.Display()) {
					t.Errorf("on chain %s %s came back as %s, %v", chain, given, a.Display(), err)
				}
			}
			if _, err := caip.ParseAsset("eip155:" + chain + "/erc20:" + address); err != nil {
				t.Error(err)
			}
			for other, told := range map[string]string{
				"1":  "which has the checksum of Ethereum (EIP-55): wallets of Rootstock",
				"30": "which has the checksum of Rootstock, chain 30 (EIP-1191)",
				"31": "which has the checksum of Rootstock Testnet, chain 31 (EIP-1191)"} {
				if other == chain {
					continue
				}
				_, err := caip.ParseAccount("eip155:" + chain + ":" + forms[other][i])
				if !errors.Is(err, caip.ErrChecksum) || !strings.Contains(err.Error(), told) {
					t.Errorf("the form of chain %s on chain %s: %v", other, chain, err)
				}
			}
		}
		mistyped := addresses[0][:len(addresses[0])-2] + "ee"
		if _, err := caip.ParseAccount("eip155:" + chain + ":" + mistyped); !errors.Is(err, caip.ErrChecksum) ||
			!strings.Contains(err.Error(), "is wrong") {
			t.Errorf("mistyped on chain %s: %v", chain, err)
		}
	}
}
