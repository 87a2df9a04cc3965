package ethsig_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/services/internal/ethsig"
)

// The addresses of EIP-55.
func TestAddressesHaveTheChecksumOfEIP55(t *testing.T) {
	for _, a := range []string{
		"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
		"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	} {
		if got, err := ethsig.ParseAddress(a); err != nil || got.String() != a {
			t.Error(got, err)
		}
		for _, plain := range []string{strings.ToLower(a), "0x" + strings.ToUpper(a[2:])} {
			if got, err := ethsig.ParseAddress(plain); err != nil || got.String() != a {
				t.Errorf("%s: %s %v", plain, got, err)
			}
		}
	}
	for wrong, rule := range map[string]string{
		"0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed":   "checksum (EIP-55)", // one letter in the other case
		"0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed":   "checksum (EIP-55)",
		"0X5aaeb6053f3e94c9b9a09f33669435e7ef1beaed":   "0x and 40",
		"5aaeb6053f3e94c9b9a09f33669435e7ef1beaed":     "0x and 40",
		"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae":    "0x and 40",
		"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaeg":   "0x and 40",
		"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed00": "0x and 40",
	} {
		if got, err := ethsig.ParseAddress(wrong); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%s was read as %s, or without saying why not: %v", wrong, got, err)
		}
	}
}
