package defi_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/defi"
)

const vaultSource = `// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.0;
import "@openzeppelin/contracts/token/ERC20/extensions/ERC4626.sol";
contract Vault is ERC4626 {
    uint256 private immutable fee; // of what is paid out, in 1/10000; it stays in the vault
    constructor(IERC20 asset_, uint256 fee_) ERC20("Vault", "V") ERC4626(asset_) { fee = fee_; }
    function previewRedeem(uint256 shares) public view override returns (uint256) {
        uint256 assets = super.previewRedeem(shares);
        return assets - Math.ceilDiv(assets * fee, 10000 + fee);
    }
    function previewWithdraw(uint256 assets) public view override returns (uint256) {
        return super.previewWithdraw(assets + Math.ceilDiv(assets * fee, 10000));
    }
}`

// compiledVault is what vaultCode returns, since the compiler takes seconds.
var compiledVault *compiled

// vaultCode is a vault of OpenZeppelin's with a fee. Tests that use it don't run in parallel.
func vaultCode(t *testing.T) compiled {
	t.Helper()
	if compiledVault == nil {
		code := compile(t, "Vault", vaultSource)
		compiledVault = &code
	}
	return *compiledVault
}

// The amount of a vault's position is what redeem pays in the block, to the last unit, also with a fee. The controls
// are the two ways that are not: convertToAssets, and the price of one share times the shares.
func TestARealVaultPaysWhatItsPositionSays(t *testing.T) {
	n := startNetwork(t)
	owner, holder := n.account(t, 0), n.account(t, 1)
	supply, _ := new(big.Int).SetString("10000000000000000000000000000", 10)
	token := n.create(t, "@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json", "Token", "T", supply,
		owner)
	code := vaultCode(t)
	for name, fee := range map[string]int64{"without a fee": 0, "with a fee": 30} {
		t.Run(name, func(t *testing.T) {
			vault := n.deploy(t, code, token.Address, big.NewInt(fee))
			market := "erc4626@eip155:1:" + vault.Hex()
			if r := n.read(t, n.newest(t), market, holder)[0]; r.Missing != "" || r.HasAny() {
				t.Fatalf("before a deposit: %+v", r)
			}
			deposit, _ := new(big.Int).SetString("900000000123456789012345678", 10)
			token.send(t, owner, "approve", vault.Address, supply)
			vault.send(t, owner, "deposit", deposit, holder)
			vault.send(t, owner, "deposit", big.NewInt(7), owner)
			token.send(t, owner, "transfer", vault.Address, big.NewInt(1_000_000_007)) // it earns
			at := n.newest(t)
			r := n.read(t, at, market, holder, owner, common.Address{1})
			shares := vault.ask(t, at, holder, "balanceOf", holder)[0].(*big.Int)
			pays := vault.number(t, at, holder, "redeem", shares, holder, holder)
			p := r[0].Positions[0]
			if r[0].Missing != "" || p.Amount.Dec() != pays || p.Kind != defi.Supplied ||
				p.Asset != "eip155:1/erc20:"+lower(token.Hex()) || p.Receipt != "eip155:1/erc20:"+lower(vault.Hex()) {
				t.Errorf("the position is %+v, and redeem pays %s", r[0], pays)
			}
			if r[2].HasAny() || r[2].Missing != "" {
				t.Errorf("who has none has %+v", r[2])
			}
			one := new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)
			price := vault.ask(t, at, holder, "convertToAssets", one)[0].(*big.Int)
			product := new(big.Int).Mul(price, shares)
			if byPrice := product.Div(product, one).String(); byPrice == pays {
				t.Error("the control, a share's price times the shares, loses nothing here")
			}
			if fee > 0 && vault.number(t, at, holder, "convertToAssets", shares) == pays {
				t.Error("the control, convertToAssets, is after the fee")
			}
			vault.send(t, holder, "redeem", shares, holder, holder)
			if r := n.read(t, n.newest(t), market, holder)[0]; r.Missing != "" || r.HasAny() {
				t.Errorf("after it was redeemed: %+v", r)
			}
		})
	}
	// A contract that is no vault, and an address without code: unknown, not zero.
	for _, address := range []common.Address{token.Address, {9}} {
		if r := n.read(t, n.newest(t), "erc4626@eip155:1:"+address.Hex(), holder)[0]; r.Missing == "" {
			t.Errorf("what is no vault is read as %+v", r)
		}
	}
}
