// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @dev What the contracts of the local development chain call of each other.
interface IERC20 {
    function balanceOf(address holder) external view returns (uint256);
    function decimals() external view returns (uint8);
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

interface IPriceFeed {
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}

interface IPriceOracle {
    function getAssetPrice(address asset) external view returns (uint256);
}

interface ILendingAddresses {
    function getPool() external view returns (address);
    function getPriceOracle() external view returns (address);
}

interface ILendingRates {
    function rates(uint256 available, uint256 debt, uint256 reserveFactor)
        external
        view
        returns (uint256 liquidity, uint256 stable, uint256 variableBorrow);
}

interface ILendingPool {
    function getReserveNormalizedIncome(address asset) external view returns (uint256);
    function getReserveNormalizedVariableDebt(address asset) external view returns (uint256);
    function supply(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external;
    function withdraw(address asset, uint256 amount, address to) external returns (uint256);
    function borrow(address asset, uint256 amount, uint256 mode, uint16 referralCode, address onBehalfOf) external;
    function repay(address asset, uint256 amount, uint256 mode, address onBehalfOf) external returns (uint256);
    function finalizeTransfer(
        address asset,
        address from,
        address to,
        uint256 amount,
        uint256 fromBefore,
        uint256 toBefore
    ) external;
}

interface IScaledToken {
    function scaledBalanceOf(address holder) external view returns (uint256);
    function scaledTotalSupply() external view returns (uint256);
}

interface ISupplyToken is IScaledToken {
    function mint(address caller, address onBehalfOf, uint256 amount, uint256 index) external returns (bool first);
    function burn(address from, address to, uint256 amount, uint256 index) external;
    function mintToTreasury(uint256 amount, uint256 index) external;
    function transferUnderlyingTo(address to, uint256 amount) external;
}

interface IDebtToken is IScaledToken {
    function mint(address caller, address onBehalfOf, uint256 amount, uint256 index)
        external
        returns (bool first, uint256 scaledTotal);
    function burn(address from, uint256 amount, uint256 index) external returns (uint256 scaledTotal);
}
