// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./LiquidityPair.sol";
import "./ScaledToken.sol";
import "./StakedEther.sol";
import "./StakingRewards.sol";
import "./YieldVault.sol";

/// @title The other users of the chain's DeFi contracts: lends, borrows, swaps and pays rewards out of its funds.
/// @notice It gives a demo holder positions without a transaction of the holder's own, so that the holder's ether
/// and tokens are those of the plan.
/// @dev Its owner calls open once and tend each day. Made for a local development chain; nobody has audited it.
contract DefiKeeper {
    struct Places {
        ILendingPool pool;
        IPriceOracle oracle;
        YieldVault vault;
        StakedEther staked;
        WrappedStakedEther wrapped;
        LiquidityPair pair;
        StakingRewards rewards;
        VariableDebtToken debt;
        IERC20 weth;
        IERC20 usdc;
        IERC20 wbtc;
        IERC20 link;
        IERC20 dai;
    }

    address private immutable owner;
    Places private my;
    uint256 private day;

    constructor(Places memory places) payable {
        owner = msg.sender;
        my = places;
    }

    modifier onlyOwner() {
        require(msg.sender == owner, "not the owner");
        _;
    }

    /// @notice Fills the markets, and opens the positions of `holder`, whose signature lets the keeper borrow for it.
    function open(address holder, uint8 v, bytes32 r, bytes32 s) external onlyOwner {
        _lend();
        _lendFor(holder, v, r, s);
        _depositFor(holder);
        _stakeFor(holder);
        _provideFor(holder);
    }

    /// @notice What happens once a day: a reward of a ten thousandth to staked ether, a swap towards the oracle's
    /// prices, and a borrowing or, the next day, a repayment.
    function tend() external onlyOwner {
        day++;
        uint256 reward = my.staked.getTotalPooledEther() / 10_000;
        if (reward <= address(this).balance) my.staked.reward{value: reward}();
        _swap();
        uint256 amount = (1 + day % 7) * 1_000e6;
        if (day % 2 == 1) my.pool.borrow(address(my.usdc), amount, 2, 0, address(this));
        else my.pool.repay(address(my.usdc), amount, 2, address(this));
    }

    function _lend() private {
        _supply(my.weth, 2_000e18, address(this));
        _supply(my.usdc, 1_000_000e6, address(this));
        _supply(my.wbtc, 20e8, address(this));
        _supply(my.dai, 400_000e18, address(this));
        my.pool.borrow(address(my.weth), 900e18, 2, 0, address(this));
        my.pool.borrow(address(my.usdc), 650_000e6, 2, 0, address(this));
        my.pool.borrow(address(my.wbtc), 4e8, 2, 0, address(this));
        my.pool.borrow(address(my.dai), 240_000e18, 2, 0, address(this));
        my.usdc.approve(address(my.pool), type(uint256).max);
    }

    function _supply(IERC20 token, uint256 amount, address to) private {
        token.approve(address(my.pool), amount);
        my.pool.supply(address(token), amount, to, 0);
    }

    function _lendFor(address holder, uint8 v, bytes32 r, bytes32 s) private {
        _supply(my.weth, 10e18, holder);
        _supply(my.dai, 5_000e18, holder);
        my.debt.delegationWithSig(holder, address(this), 8_000e6, type(uint256).max, v, r, s);
        my.pool.borrow(address(my.usdc), 8_000e6, 2, 0, holder);
    }

    function _depositFor(address holder) private {
        my.usdc.approve(address(my.vault), 320_000e6);
        my.vault.deposit(300_000e6, address(this));
        my.vault.deposit(20_000e6, holder);
    }

    function _stakeFor(address holder) private {
        my.staked.submit{value: 500 ether}(address(0));
        my.staked.transfer(holder, 4 ether);
        my.staked.approve(address(my.wrapped), 3 ether);
        my.wrapped.transfer(holder, my.wrapped.wrap(3 ether));
        my.link.approve(address(my.rewards), 10_000e18);
        my.rewards.stakeFor(address(this), 9_500e18);
        my.rewards.stakeFor(holder, 500e18);
        my.dai.transfer(address(my.rewards), my.rewards.rewardRate() * (my.rewards.periodFinish() - block.timestamp));
    }

    function _provideFor(address holder) private {
        _provide(400e18, address(this));
        _provide(4e18, holder);
    }

    /// @dev Adds WETH and USDC of the same value.
    function _provide(uint256 weth, address to) private {
        my.weth.transfer(address(my.pair), weth);
        my.usdc.transfer(address(my.pair), (_value(my.weth, weth) * 1e6) / _value(my.usdc, 1e6));
        my.pair.mint(to);
    }

    function _value(IERC20 token, uint256 amount) private view returns (uint256) {
        return (amount * my.oracle.getAssetPrice(address(token))) / 10 ** token.decimals();
    }

    /// @dev Swaps half a percent of the reserve that is worth less, which takes the price by a percent.
    function _swap() private {
        (uint256 reserveIn, uint256 reserveOut,) = my.pair.getReserves();
        bool first = _value(IERC20(my.pair.token0()), reserveIn) < _value(IERC20(my.pair.token1()), reserveOut);
        if (!first) (reserveIn, reserveOut) = (reserveOut, reserveIn);
        uint256 amount = reserveIn / 200;
        uint256 out = (amount * 997 * reserveOut) / (reserveIn * 1_000 + amount * 997);
        IERC20(first ? my.pair.token0() : my.pair.token1()).transfer(address(my.pair), amount);
        (uint256 out0, uint256 out1) = first ? (uint256(0), out) : (out, uint256(0));
        my.pair.swap(out0, out1, address(this), "");
    }
}
