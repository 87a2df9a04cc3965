// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./MintableToken.sol";

/// @title A vault of ERC-4626 that lends its assets to the lending pool, so that they grow with every second.
/// @notice Who leaves pays 0.1 %, which stays with the others: previewRedeem is less than convertToAssets.
/// @dev Made for a local development chain; nobody has audited it.
contract YieldVault is MintableToken {
    address public immutable asset;
    ILendingPool private immutable pool;
    IERC20 private immutable receipt;

    /// @notice In hundredths of a percent of what is paid out.
    uint256 public constant EXIT_FEE = 10;

    event Deposit(address indexed sender, address indexed owner, uint256 assets, uint256 shares);
    event Withdraw(
        address indexed sender, address indexed receiver, address indexed owner, uint256 assets, uint256 shares
    );

    constructor(string memory name_, string memory symbol_, address asset_, address pool_, address receipt_)
        MintableToken(name_, symbol_, IERC20(asset_).decimals())
    {
        asset = asset_;
        pool = ILendingPool(pool_);
        receipt = IERC20(receipt_);
        IERC20(asset_).approve(pool_, type(uint256).max);
    }

    function totalAssets() public view returns (uint256) {
        return receipt.balanceOf(address(this));
    }

    /// @dev One virtual share and asset, so that an empty vault has a price.
    function convertToShares(uint256 assets) public view returns (uint256) {
        return (assets * (totalSupply + 1)) / (totalAssets() + 1);
    }

    function convertToAssets(uint256 shares) public view returns (uint256) {
        return (shares * (totalAssets() + 1)) / (totalSupply + 1);
    }

    function previewDeposit(uint256 assets) public view returns (uint256) {
        return convertToShares(assets);
    }

    function previewMint(uint256 shares) public view returns (uint256) {
        return _ceil(shares * (totalAssets() + 1), totalSupply + 1);
    }

    function previewRedeem(uint256 shares) public view returns (uint256) {
        uint256 assets = convertToAssets(shares);
        return assets - _ceil(assets * EXIT_FEE, 10_000 + EXIT_FEE);
    }

    function previewWithdraw(uint256 assets) public view returns (uint256) {
        uint256 all = assets + _ceil(assets * EXIT_FEE, 10_000);
        return _ceil(all * (totalSupply + 1), totalAssets() + 1);
    }

    function maxDeposit(address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function maxMint(address) external pure returns (uint256) {
        return type(uint256).max;
    }

    function maxRedeem(address owner) external view returns (uint256) {
        return balanceOf[owner];
    }

    function maxWithdraw(address owner) external view returns (uint256) {
        return previewRedeem(balanceOf[owner]);
    }

    function deposit(uint256 assets, address receiver) external returns (uint256 shares) {
        shares = previewDeposit(assets);
        _enter(assets, shares, receiver);
    }

    function mint(uint256 shares, address receiver) external returns (uint256 assets) {
        assets = previewMint(shares);
        _enter(assets, shares, receiver);
    }

    function withdraw(uint256 assets, address receiver, address owner) external returns (uint256 shares) {
        shares = previewWithdraw(assets);
        _leave(assets, shares, receiver, owner);
    }

    function redeem(uint256 shares, address receiver, address owner) external returns (uint256 assets) {
        assets = previewRedeem(shares);
        _leave(assets, shares, receiver, owner);
    }

    function _enter(uint256 assets, uint256 shares, address receiver) private {
        IERC20(asset).transferFrom(msg.sender, address(this), assets);
        pool.supply(asset, assets, address(this), 0);
        _mint(receiver, shares);
        emit Deposit(msg.sender, receiver, assets, shares);
    }

    function _leave(uint256 assets, uint256 shares, address receiver, address owner) private {
        _spend(owner, shares);
        _burn(owner, shares);
        pool.withdraw(asset, assets, receiver);
        emit Withdraw(msg.sender, receiver, owner, assets, shares);
    }

    function _ceil(uint256 value, uint256 by) private pure returns (uint256) {
        return (value + by - 1) / by;
    }
}
