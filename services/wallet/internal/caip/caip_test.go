package caip_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// The addresses are EIP-55's own examples.
func TestAccounts(t *testing.T) {
	const good = "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"a checksummed address is read", good, nil},
		{"lower case is read", strings.ToLower(good), nil},
		{"upper case digits are read", "eip155:1:0x52908400098527886E0F7030069857D2E4169EE7", nil},
		{"one wrong letter case is refused", "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", caip.ErrChecksum},
		{"a bare address is refused", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", caip.ErrForm},
		{"another namespace is refused", "cosmos:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", caip.ErrForm},
		{"a short address is refused", "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeA", caip.ErrAddress},
		{"letters past f are refused", "eip155:1:0xzzaeb6053f3e94c9b9a09f33669435e7ef1beaed", caip.ErrAddress},
		{"chain 0 is refused", "eip155:0:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", caip.ErrChain},
		{"a leading zero is refused", "eip155:01:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", caip.ErrChain},
		{"a signed chain is refused", "eip155:+1:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", caip.ErrChain},
		{"a chain past 63 bits is refused", "eip155:9223372036854775808:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
			caip.ErrChain},
		{"an empty string is refused", "", caip.ErrForm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := caip.ParseAccount(tc.in)
			if !errors.Is(err, tc.want) {
				t.Fatalf("ParseAccount(%q) = %v, want %v", tc.in, err, tc.want)
			}
			if err == nil && (a.String() != strings.ToLower(tc.in) || !strings.EqualFold(a.Display(), tc.in)) {
				t.Errorf("%q came back as %q and %q", tc.in, a, a.Display())
			}
		})
	}
}

func TestAssets(t *testing.T) {
	const good = "eip155:1/erc20:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"a checksummed contract is read", good, nil},
		{"lower case is read", strings.ToLower(good), nil},
		{"a native coin is read", "eip155:1/slip44:60", nil},
		{"coin 0 is read", "eip155:1/slip44:0", nil},
		{"one wrong letter case is refused", good[:len(good)-1] + "D", caip.ErrChecksum},
		{"a chain alone is refused", "eip155:1", caip.ErrAssetForm},
		{"an account is refused", "eip155:1:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", caip.ErrAssetForm},
		{"another namespace is refused", "cosmos:1/slip44:118", caip.ErrAssetForm},
		{"a kind in upper case is refused", "eip155:1/SLIP44:60", caip.ErrAssetForm},
		{"an NFT is refused", strings.Replace(good, "erc20", "erc721", 1), caip.ErrAssetForm},
		{"a coin with a leading zero is refused", "eip155:1/slip44:060", caip.ErrAssetForm},
		{"a signed coin is refused", "eip155:1/slip44:+60", caip.ErrAssetForm},
		{"a coin past 31 bits is refused", "eip155:1/slip44:2147483648", caip.ErrAssetForm},
		{"no coin is refused", "eip155:1/slip44:", caip.ErrAssetForm},
		{"no contract is refused", "eip155:1/erc20:", caip.ErrAddress},
		{"something after it is refused", "eip155:1/slip44:60/1", caip.ErrAssetForm},
		{"a NUL byte is refused", "eip155:1/slip44:60\x00", caip.ErrAssetForm},
		{"chain 0 is refused", "eip155:0/slip44:60", caip.ErrChain},
		{"an empty string is refused", "", caip.ErrAssetForm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := caip.ParseAsset(tc.in)
			if !errors.Is(err, tc.want) {
				t.Fatalf("ParseAsset(%q) = %v, want %v", tc.in, err, tc.want)
			}
			if err == nil && a.String() != strings.ToLower(tc.in) {
				t.Errorf("%q came back as %q", tc.in, a)
			}
		})
	}
}

func TestChainIDs(t *testing.T) {
	for in, want := range map[string]error{
		"eip155:1": nil, "eip155:9223372036854775807": nil,
		"1": caip.ErrChainForm, "": caip.ErrChainForm, "cosmos:1": caip.ErrChainForm,
		"eip155:": caip.ErrChain, "eip155:01": caip.ErrChain, "eip155:0": caip.ErrChain, "eip155:-1": caip.ErrChain,
		"eip155:1\x00": caip.ErrChain,
	} {
		n, err := caip.ParseChainID(in)
		if !errors.Is(err, want) || err == nil && caip.ChainID(n) != in {
			t.Errorf("ParseChainID(%q) = %d, %v", in, n, err)
		}
	}
}

func TestEveryIDReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chain := rapid.Uint64Range(1, 1<<63-1).Draw(t, "chain")
		address := common.BytesToAddress(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "address"))
		account := caip.Account{Chain: chain, Address: address}
		for _, s := range []string{account.String(), account.Display()} {
			if back, err := caip.ParseAccount(s); err != nil || back != account {
				t.Fatalf("%q read back as %v, %v", s, back, err)
			}
		}
		for _, asset := range []caip.Asset{
			{Chain: chain, Contract: address},
			{Chain: chain, Native: true, Coin: rapid.Uint32Range(0, 1<<31-1).Draw(t, "coin")},
		} {
			if back, err := caip.ParseAsset(asset.String()); err != nil || back != asset {
				t.Fatalf("%q read back as %v, %v", asset, back, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
	f.Add("eip155:1/slip44:60")
	f.Add("eip155:1/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := caip.ParseAccount(s); err == nil && !strings.EqualFold(a.String(), s) {
			t.Errorf("%q read as %q", s, a)
		}
		if a, err := caip.ParseAsset(s); err == nil && !strings.EqualFold(a.String(), s) {
			t.Errorf("%q read as %q", s, a)
		}
	})
}
