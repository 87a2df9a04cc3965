// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title Arithmetic of the lending pool: numbers with 27 decimals, rounded half up.
/// @dev Made for a local development chain; nobody has audited it.
library Ray {
    uint256 internal constant ONE = 1e27;
    /// @dev Aave's year has no leap day.
    uint256 private constant YEAR = 365 days;

    function mul(uint256 a, uint256 b) internal pure returns (uint256) {
        return (a * b + ONE / 2) / ONE;
    }

    function div(uint256 a, uint256 b) internal pure returns (uint256) {
        return (a * ONE + b / 2) / b;
    }

    /// @notice `bps` hundredths of a percent of `value`.
    function percent(uint256 value, uint256 bps) internal pure returns (uint256) {
        return (value * bps + 5_000) / 10_000;
    }

    /// @notice The growth of a supply in `time` seconds at a rate a year: simple interest.
    function linear(uint256 rate, uint256 time) internal pure returns (uint256) {
        return ONE + (rate * time) / YEAR;
    }

    /// @notice The growth of a debt in `time` seconds at a rate a year: the first three terms of interest that
    /// is compounded every second, (1 + rate / YEAR) ** time.
    function compound(uint256 rate, uint256 time) internal pure returns (uint256) {
        if (time == 0) return ONE;
        uint256 square = mul(rate, rate) / (YEAR * YEAR);
        uint256 cube = mul(square, rate) / YEAR;
        uint256 pairs = time * (time - 1);
        uint256 triples = time > 2 ? pairs * (time - 2) : 0;
        return linear(rate, time) + (pairs * square) / 2 + (triples * cube) / 6;
    }
}
