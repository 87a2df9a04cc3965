// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./MintableToken.sol";

/// @title The list of pairs, in the shape of Uniswap v2's factory.
/// @dev Made for a local development chain; nobody has audited it.
contract LiquidityFactory {
    /// @notice Who gets a sixth of the pairs' fees.
    address public immutable feeTo;
    mapping(address a => mapping(address b => address pair)) public getPair;
    address[] public allPairs;

    event PairCreated(address indexed token0, address indexed token1, address pair, uint256 number);

    constructor(address feeTo_) {
        feeTo = feeTo_;
    }

    function allPairsLength() external view returns (uint256) {
        return allPairs.length;
    }

    function createPair(address a, address b) external returns (address pair) {
        (address token0, address token1) = a < b ? (a, b) : (b, a);
        require(token0 != token1 && token0 != address(0), "UniswapV2: INVALID_TOKENS");
        require(getPair[token0][token1] == address(0), "UniswapV2: PAIR_EXISTS");
        pair = address(new LiquidityPair(token0, token1));
        getPair[token0][token1] = pair;
        getPair[token1][token0] = pair;
        allPairs.push(pair);
        emit PairCreated(token0, token1, pair, allPairs.length);
    }
}

/// @title Two tokens that anybody swaps at the price of their reserves for 0.3 %, in the shape of Uniswap v2's pair.
/// @notice A sixth of the fees goes to the factory's feeTo, as shares that the next mint or burn makes. Left out:
/// the callback of a swap.
contract LiquidityPair is MintableToken {
    address public immutable factory;
    address public immutable token0;
    address public immutable token1;

    uint256 public constant MINIMUM_LIQUIDITY = 1_000;
    uint256 public price0CumulativeLast;
    uint256 public price1CumulativeLast;
    /// @notice The product of the reserves after the last mint or burn.
    uint256 public kLast;
    uint112 private reserve0;
    uint112 private reserve1;
    uint32 private updated;

    event Mint(address indexed sender, uint256 amount0, uint256 amount1);
    event Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to);
    event Swap(
        address indexed sender,
        uint256 amount0In,
        uint256 amount1In,
        uint256 amount0Out,
        uint256 amount1Out,
        address indexed to
    );
    event Sync(uint112 reserve0, uint112 reserve1);

    constructor(address token0_, address token1_) MintableToken("Uniswap V2 (local)", "UNI-V2", 18) {
        factory = msg.sender;
        (token0, token1) = (token0_, token1_);
    }

    function getReserves() public view returns (uint112, uint112, uint32) {
        return (reserve0, reserve1, updated);
    }

    /// @notice Makes shares of what was sent to the pair since its last update.
    function mint(address to) external returns (uint256 shares) {
        (uint256 balance0, uint256 balance1) = _balances();
        (uint256 amount0, uint256 amount1) = (balance0 - reserve0, balance1 - reserve1);
        _mintFee();
        uint256 supply = totalSupply;
        if (supply == 0) {
            shares = _sqrt(amount0 * amount1) - MINIMUM_LIQUIDITY;
            _mint(address(0), MINIMUM_LIQUIDITY);
        } else {
            shares = _min((amount0 * supply) / reserve0, (amount1 * supply) / reserve1);
        }
        require(shares != 0, "UniswapV2: INSUFFICIENT_LIQUIDITY_MINTED");
        _mint(to, shares);
        _update(balance0, balance1);
        kLast = uint256(reserve0) * reserve1;
        emit Mint(msg.sender, amount0, amount1);
    }

    /// @notice Pays out the shares that were sent to the pair.
    function burn(address to) external returns (uint256 amount0, uint256 amount1) {
        (uint256 balance0, uint256 balance1) = _balances();
        uint256 shares = balanceOf[address(this)];
        _mintFee();
        (amount0, amount1) = ((shares * balance0) / totalSupply, (shares * balance1) / totalSupply);
        require(amount0 != 0 && amount1 != 0, "UniswapV2: INSUFFICIENT_LIQUIDITY_BURNED");
        _burn(address(this), shares);
        IERC20(token0).transfer(to, amount0);
        IERC20(token1).transfer(to, amount1);
        (balance0, balance1) = _balances();
        _update(balance0, balance1);
        kLast = uint256(reserve0) * reserve1;
        emit Burn(msg.sender, amount0, amount1, to);
    }

    /// @notice Pays out, if what was sent to the pair is enough for it after the fee.
    function swap(uint256 out0, uint256 out1, address to, bytes calldata data) external {
        require(data.length == 0, "no callback");
        require(out0 + out1 != 0, "UniswapV2: INSUFFICIENT_OUTPUT_AMOUNT");
        require(out0 < reserve0 && out1 < reserve1, "UniswapV2: INSUFFICIENT_LIQUIDITY");
        if (out0 != 0) IERC20(token0).transfer(to, out0);
        if (out1 != 0) IERC20(token1).transfer(to, out1);
        (uint256 balance0, uint256 balance1) = _balances();
        uint256 in0 = balance0 + out0 - reserve0;
        uint256 in1 = balance1 + out1 - reserve1;
        require(in0 + in1 != 0, "UniswapV2: INSUFFICIENT_INPUT_AMOUNT");
        uint256 k = (balance0 * 1_000 - in0 * 3) * (balance1 * 1_000 - in1 * 3);
        require(k >= uint256(reserve0) * reserve1 * 1_000_000, "UniswapV2: K");
        _update(balance0, balance1);
        emit Swap(msg.sender, in0, in1, out0, out1, to);
    }

    function _balances() private view returns (uint256, uint256) {
        return (IERC20(token0).balanceOf(address(this)), IERC20(token1).balanceOf(address(this)));
    }

    function _update(uint256 balance0, uint256 balance1) private {
        require(balance0 <= type(uint112).max && balance1 <= type(uint112).max, "UniswapV2: OVERFLOW");
        uint32 elapsed = uint32(block.timestamp) - updated;
        if (elapsed != 0 && reserve0 != 0 && reserve1 != 0) {
            price0CumulativeLast += ((uint256(reserve1) << 112) / reserve0) * elapsed;
            price1CumulativeLast += ((uint256(reserve0) << 112) / reserve1) * elapsed;
        }
        (reserve0, reserve1, updated) = (uint112(balance0), uint112(balance1), uint32(block.timestamp));
        emit Sync(reserve0, reserve1);
    }

    function _mintFee() private {
        uint256 root = _sqrt(uint256(reserve0) * reserve1);
        uint256 before = _sqrt(kLast);
        address feeTo = LiquidityFactory(factory).feeTo();
        if (feeTo == address(0) || kLast == 0 || root <= before) return;
        uint256 shares = (totalSupply * (root - before)) / (root * 5 + before);
        if (shares != 0) _mint(feeTo, shares);
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }

    /// @dev The root rounded down: halving what it is too large by, from above.
    function _sqrt(uint256 y) private pure returns (uint256 root) {
        root = y;
        for (uint256 x = y / 2 + 1; x < root; x = (y / x + x) / 2) {
            root = x;
        }
    }
}
