// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./MintableToken.sol";

/// @title Staked ether in the shape of Lido's stETH: balances are shares of a pool of ether that rewards grow.
/// @dev Made for a local development chain; nobody has audited it.
contract StakedEther {
    string public constant name = "Liquid Staked Ether (local)";
    string public constant symbol = "stETH";
    uint8 public constant decimals = 18;

    uint256 public getTotalPooledEther;
    uint256 public getTotalShares;
    mapping(address holder => uint256 shares) public sharesOf;
    mapping(address owner => mapping(address spender => uint256 amount)) public allowance;
    uint256 private rewarded;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event TransferShares(address indexed from, address indexed to, uint256 sharesValue);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event Submitted(address indexed sender, uint256 amount, address referral);
    event TokenRebased(
        uint256 indexed reportTimestamp,
        uint256 timeElapsed,
        uint256 preTotalShares,
        uint256 preTotalEther,
        uint256 postTotalShares,
        uint256 postTotalEther,
        uint256 sharesMintedAsFees
    );

    constructor() {
        rewarded = block.timestamp;
    }

    /// @notice Stakes the ether that is sent. It returns the shares.
    function submit(address referral) external payable returns (uint256 shares) {
        require(msg.value != 0, "ZERO_DEPOSIT");
        shares = getTotalShares == 0 ? msg.value : getSharesByPooledEth(msg.value);
        getTotalPooledEther += msg.value;
        getTotalShares += shares;
        sharesOf[msg.sender] += shares;
        emit Submitted(msg.sender, msg.value, referral);
        emit Transfer(address(0), msg.sender, getPooledEthByShares(shares));
        emit TransferShares(address(0), msg.sender, shares);
    }

    /// @notice Adds the ether that is sent to the pool: every balance grows.
    function reward() external payable {
        uint256 before = getTotalPooledEther;
        getTotalPooledEther = before + msg.value;
        uint256 shares = getTotalShares;
        emit TokenRebased(block.timestamp, block.timestamp - rewarded, shares, before, shares, before + msg.value, 0);
        rewarded = block.timestamp;
    }

    function totalSupply() external view returns (uint256) {
        return getTotalPooledEther;
    }

    function balanceOf(address holder) external view returns (uint256) {
        return getPooledEthByShares(sharesOf[holder]);
    }

    function getPooledEthByShares(uint256 shares) public view returns (uint256) {
        return getTotalShares == 0 ? 0 : (shares * getTotalPooledEther) / getTotalShares;
    }

    function getSharesByPooledEth(uint256 amount) public view returns (uint256) {
        return getTotalPooledEther == 0 ? 0 : (amount * getTotalShares) / getTotalPooledEther;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, getSharesByPooledEth(value), value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        allowance[from][msg.sender] -= value;
        _move(from, to, getSharesByPooledEth(value), value);
        return true;
    }

    function transferShares(address to, uint256 shares) external returns (uint256 value) {
        value = getPooledEthByShares(shares);
        _move(msg.sender, to, shares, value);
    }

    function _move(address from, address to, uint256 shares, uint256 value) private {
        require(to != address(0), "TRANSFER_TO_ZERO_ADDR");
        sharesOf[from] -= shares;
        sharesOf[to] += shares;
        emit Transfer(from, to, value);
        emit TransferShares(from, to, shares);
    }
}

/// @title The wrapper of staked ether in the shape of wstETH: its balances stay, its price in stETH grows.
contract WrappedStakedEther is MintableToken {
    StakedEther public immutable stETH;

    constructor(StakedEther staked) MintableToken("Wrapped Liquid Staked Ether (local)", "wstETH", 18) {
        stETH = staked;
    }

    function wrap(uint256 amount) external returns (uint256 wrapped) {
        wrapped = stETH.getSharesByPooledEth(amount);
        require(wrapped != 0, "wstETH: can't wrap zero stETH");
        _mint(msg.sender, wrapped);
        stETH.transferFrom(msg.sender, address(this), amount);
    }

    function unwrap(uint256 wrapped) external returns (uint256 amount) {
        amount = stETH.getPooledEthByShares(wrapped);
        require(amount != 0, "wstETH: zero amount unwrap not allowed");
        _burn(msg.sender, wrapped);
        stETH.transfer(msg.sender, amount);
    }

    function getStETHByWstETH(uint256 wrapped) external view returns (uint256) {
        return stETH.getPooledEthByShares(wrapped);
    }

    function getWstETHByStETH(uint256 amount) external view returns (uint256) {
        return stETH.getSharesByPooledEth(amount);
    }

    function stEthPerToken() external view returns (uint256) {
        return stETH.getPooledEthByShares(1 ether);
    }

    function tokensPerStEth() external view returns (uint256) {
        return stETH.getSharesByPooledEth(1 ether);
    }
}
