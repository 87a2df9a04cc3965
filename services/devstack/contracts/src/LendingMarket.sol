// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./Ray.sol";

/// @title Where the parts of the lending market are, in the shape of Aave's PoolAddressesProvider.
/// @dev Made for a local development chain; nobody has audited it.
contract LendingAddresses is ILendingAddresses {
    string public getMarketId;
    address public immutable getPool;
    address public immutable getPriceOracle;

    constructor(string memory marketId, address pool, address oracle) {
        getMarketId = marketId;
        getPool = pool;
        getPriceOracle = oracle;
    }
}

/// @title The market's prices in US dollars with 8 decimals, in the shape of AaveOracle.
/// @notice Each is the answer of the chain's price feed of the asset at this block. Their age isn't checked.
contract LendingOracle is IPriceOracle {
    address public constant BASE_CURRENCY = address(0);
    uint256 public constant BASE_CURRENCY_UNIT = 1e8;

    mapping(address asset => address feed) public getSourceOfAsset;

    constructor(address[] memory assets, address[] memory feeds) {
        for (uint256 i = 0; i < assets.length; i++) {
            getSourceOfAsset[assets[i]] = feeds[i];
        }
    }

    function getAssetPrice(address asset) public view returns (uint256) {
        (, int256 answer,,,) = IPriceFeed(getSourceOfAsset[asset]).latestRoundData();
        require(answer > 0, "no price");
        return uint256(answer);
    }

    function getAssetsPrices(address[] calldata assets) external view returns (uint256[] memory prices) {
        prices = new uint256[](assets.length);
        for (uint256 i = 0; i < assets.length; i++) {
            prices[i] = getAssetPrice(assets[i]);
        }
    }
}

/// @title Rates by how much of a reserve is lent: one slope up to the optimum, a steeper one after it.
/// @notice In the shape of Aave's DefaultReserveInterestRateStrategy. All numbers have 27 decimals.
contract LendingRates is ILendingRates {
    uint256 public immutable OPTIMAL_USAGE_RATIO;
    uint256 public immutable getBaseVariableBorrowRate;
    uint256 public immutable getVariableRateSlope1;
    uint256 public immutable getVariableRateSlope2;

    constructor(uint256 optimal, uint256 base, uint256 slope1, uint256 slope2) {
        require(optimal < Ray.ONE, "83");
        OPTIMAL_USAGE_RATIO = optimal;
        getBaseVariableBorrowRate = base;
        getVariableRateSlope1 = slope1;
        getVariableRateSlope2 = slope2;
    }

    function getMaxVariableBorrowRate() external view returns (uint256) {
        return getBaseVariableBorrowRate + getVariableRateSlope1 + getVariableRateSlope2;
    }

    /// @notice The rates of a reserve with `available` and `debt` in its asset's base units, of whose interest
    /// the treasury takes `reserveFactor` hundredths of a percent.
    function rates(uint256 available, uint256 debt, uint256 reserveFactor)
        external
        view
        returns (uint256 liquidity, uint256 stable, uint256 variableBorrow)
    {
        uint256 usage = debt == 0 ? 0 : Ray.div(debt, available + debt);
        stable = getVariableRateSlope1;
        variableBorrow = getBaseVariableBorrowRate;
        if (usage > OPTIMAL_USAGE_RATIO) {
            uint256 excess = Ray.div(usage - OPTIMAL_USAGE_RATIO, Ray.ONE - OPTIMAL_USAGE_RATIO);
            variableBorrow += getVariableRateSlope1 + Ray.mul(getVariableRateSlope2, excess);
        } else {
            variableBorrow += Ray.div(Ray.mul(getVariableRateSlope1, usage), OPTIMAL_USAGE_RATIO);
        }
        if (debt == 0) return (0, stable, variableBorrow);
        // By way of the interest of the whole debt, which rounds the rate of a small one.
        uint256 overall = Ray.div(Ray.mul(debt * 1e9, variableBorrow), debt * 1e9);
        liquidity = Ray.percent(Ray.mul(overall, usage), 10_000 - reserveFactor);
    }
}
