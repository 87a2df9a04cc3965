// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A price feed in the shape of Chainlink's AggregatorV3Interface.
/// @notice Its price is that of the embedded price feed at each full hour, to the last place: computed from
/// the hour, so that there is one at every block without a transaction.
/// @dev Its storage is set by the genesis block, in this order. Made for a local development chain; nobody
/// has audited it.
contract PriceFeed {
    /// @notice What it prices, as "ETH / USD".
    string public description;
    /// @dev The parameters of the walk, as in package prices.
    uint256 private walk;
    int256 private base;
    int256 private maxDeviation;

    uint8 public constant decimals = 8;
    uint256 public constant version = 4;

    /// @dev 2020-01-01, before which there are no prices, in hours since 1970.
    uint256 private constant FIRST = 1577836800 / 3600;
    /// @dev The phase of Chainlink's proxies, in the upper bits of a round's id.
    uint256 private constant PHASE = 1 << 64;

    /// @notice The round of the last full hour.
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        return round(block.timestamp / 3600);
    }

    /// @notice The round of an id: the number of an hour since 1970, in phase 1.
    function getRoundData(uint80 id)
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        require(id > PHASE && id - PHASE <= block.timestamp / 3600, "No data present");
        return round(id - PHASE);
    }

    function round(uint256 hour) private view returns (uint80, int256, uint256, uint256, uint80) {
        require(hour >= FIRST && base > 0, "No data present");
        uint80 id = uint80(PHASE | hour);
        return (id, price(int256(hour)), hour * 3600, hour * 3600, id);
    }

    /// @dev Layers of noise, each with its span in hours and its share in thousandths.
    function price(int256 hour) private view returns (int256) {
        int256 sum = 480 * noise(4320, hour) + 260 * noise(1080, hour) + 140 * noise(240, hour);
        sum += 70 * noise(48, hour) + 35 * noise(12, hour) + 15 * noise(1, hour);
        int256 deviation = ((sum / 1000) * maxDeviation) / 1000000;
        return base + (base / 1000000) * deviation;
    }

    function noise(int256 span, int256 hour) private view returns (int256) {
        int256 corner = hour / span;
        int256 from = height(span, corner);
        return from + ((height(span, corner + 1) - from) * (hour % span)) / span;
    }

    /// @dev SplitMix64, in 64 bits that wrap.
    function height(int256 span, int256 corner) private view returns (int256) {
        unchecked {
            uint64 z = (uint64(walk) << 48) ^ (uint64(uint256(span)) << 32) ^ uint64(uint256(corner));
            z += 0x9e3779b97f4a7c15;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            z = z ^ (z >> 31);
            return int256(uint256(z % 2000001)) - 1000000;
        }
    }
}
