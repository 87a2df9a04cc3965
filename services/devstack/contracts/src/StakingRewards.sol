// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";

/// @title Staking of one token for another: a constant reward a second, divided by what is staked.
/// @notice In the shape of Synthetix' StakingRewards, with stakeFor besides.
/// @dev Made for a local development chain; nobody has audited it.
contract StakingRewards {
    address public immutable stakingToken;
    address public immutable rewardsToken;
    /// @notice In base units of the reward a second.
    uint256 public immutable rewardRate;
    uint256 public immutable periodFinish;

    uint256 public totalSupply;
    mapping(address holder => uint256 amount) public balanceOf;
    mapping(address holder => uint256 amount) public rewards;
    mapping(address holder => uint256 amount) public userRewardPerTokenPaid;
    uint256 public rewardPerTokenStored;
    uint256 public lastUpdateTime;

    event Staked(address indexed user, uint256 amount);
    event Withdrawn(address indexed user, uint256 amount);
    event RewardPaid(address indexed user, uint256 reward);

    /// @notice The rewards of `duration` seconds must be sent to the contract, which it doesn't check.
    constructor(address staking, address reward, uint256 rate, uint256 duration) {
        (stakingToken, rewardsToken, rewardRate) = (staking, reward, rate);
        periodFinish = block.timestamp + duration;
        lastUpdateTime = block.timestamp;
    }

    function lastTimeRewardApplicable() public view returns (uint256) {
        return block.timestamp < periodFinish ? block.timestamp : periodFinish;
    }

    function rewardPerToken() public view returns (uint256) {
        if (totalSupply == 0) return rewardPerTokenStored;
        uint256 time = lastTimeRewardApplicable() - lastUpdateTime;
        return rewardPerTokenStored + (time * rewardRate * 1e18) / totalSupply;
    }

    /// @notice What a holder can claim at this block.
    function earned(address holder) public view returns (uint256) {
        return rewards[holder] + (balanceOf[holder] * (rewardPerToken() - userRewardPerTokenPaid[holder])) / 1e18;
    }

    function stake(uint256 amount) external {
        stakeFor(msg.sender, amount);
    }

    function stakeFor(address holder, uint256 amount) public {
        _settle(holder);
        require(amount != 0, "Cannot stake 0");
        totalSupply += amount;
        balanceOf[holder] += amount;
        IERC20(stakingToken).transferFrom(msg.sender, address(this), amount);
        emit Staked(holder, amount);
    }

    function withdraw(uint256 amount) public {
        _settle(msg.sender);
        require(amount != 0, "Cannot withdraw 0");
        totalSupply -= amount;
        balanceOf[msg.sender] -= amount;
        IERC20(stakingToken).transfer(msg.sender, amount);
        emit Withdrawn(msg.sender, amount);
    }

    function getReward() public {
        _settle(msg.sender);
        uint256 reward = rewards[msg.sender];
        if (reward == 0) return;
        rewards[msg.sender] = 0;
        IERC20(rewardsToken).transfer(msg.sender, reward);
        emit RewardPaid(msg.sender, reward);
    }

    function exit() external {
        withdraw(balanceOf[msg.sender]);
        getReward();
    }

    function _settle(address holder) private {
        rewardPerTokenStored = rewardPerToken();
        lastUpdateTime = lastTimeRewardApplicable();
        rewards[holder] = earned(holder);
        userRewardPerTokenPaid[holder] = rewardPerTokenStored;
    }
}
