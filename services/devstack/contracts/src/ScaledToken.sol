// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./Ray.sol";

/// @title A token of the lending pool whose balances grow: a stored, scaled balance times the pool's index.
/// @dev Its Transfer events carry the interest since the holder's last one, as Aave's do, so that they are not
/// the amounts supplied or withdrawn. Made for a local development chain; nobody has audited it.
abstract contract ScaledToken {
    string public name;
    string public symbol;
    uint8 public immutable decimals;
    address public immutable POOL;
    address public immutable UNDERLYING_ASSET_ADDRESS;

    mapping(address holder => uint256 scaled) public scaledBalanceOf;
    /// @notice The index at a holder's last event.
    mapping(address holder => uint256 index) public getPreviousIndex;
    uint256 public scaledTotalSupply;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Mint(
        address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index
    );
    event Burn(address indexed from, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index);

    modifier onlyPool() {
        require(msg.sender == POOL, "23");
        _;
    }

    constructor(string memory name_, string memory symbol_, address pool, address underlying) {
        name = name_;
        symbol = symbol_;
        POOL = pool;
        UNDERLYING_ASSET_ADDRESS = underlying;
        decimals = IERC20(underlying).decimals();
    }

    /// @notice The index at this block.
    function _index() internal view virtual returns (uint256);

    function balanceOf(address holder) public view returns (uint256) {
        uint256 scaled = scaledBalanceOf[holder];
        return scaled == 0 ? 0 : Ray.mul(scaled, _index());
    }

    function totalSupply() external view returns (uint256) {
        return scaledTotalSupply == 0 ? 0 : Ray.mul(scaledTotalSupply, _index());
    }

    function getScaledUserBalanceAndSupply(address holder) external view returns (uint256, uint256) {
        return (scaledBalanceOf[holder], scaledTotalSupply);
    }

    /// @dev The interest since a holder's last event.
    function _settle(address holder, uint256 index) internal returns (uint256 increase) {
        uint256 scaled = scaledBalanceOf[holder];
        increase = Ray.mul(scaled, index) - Ray.mul(scaled, getPreviousIndex[holder]);
        getPreviousIndex[holder] = index;
    }

    function _mintScaled(address caller, address to, uint256 amount, uint256 index) internal returns (bool first) {
        uint256 scaled = Ray.div(amount, index);
        require(scaled != 0, "24");
        first = scaledBalanceOf[to] == 0;
        uint256 increase = _settle(to, index);
        scaledBalanceOf[to] += scaled;
        scaledTotalSupply += scaled;
        emit Transfer(address(0), to, amount + increase);
        emit Mint(caller, to, amount + increase, increase, index);
    }

    function _burnScaled(address from, address target, uint256 amount, uint256 index) internal {
        uint256 scaled = Ray.div(amount, index);
        require(scaled != 0, "25");
        uint256 increase = _settle(from, index);
        scaledBalanceOf[from] -= scaled;
        scaledTotalSupply -= scaled;
        if (increase > amount) {
            emit Transfer(address(0), from, increase - amount);
            emit Mint(from, from, increase - amount, increase, index);
        } else {
            emit Transfer(from, address(0), amount - increase);
            emit Burn(from, target, amount - increase, increase, index);
        }
    }
}

/// @title What is supplied to the lending pool, in the shape of Aave's AToken.
contract SupplyToken is ScaledToken {
    address public immutable RESERVE_TREASURY_ADDRESS;
    mapping(address owner => mapping(address spender => uint256 amount)) public allowance;

    event Approval(address indexed owner, address indexed spender, uint256 value);
    event BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index);

    constructor(string memory name_, string memory symbol_, address pool, address underlying, address treasury)
        ScaledToken(name_, symbol_, pool, underlying)
    {
        RESERVE_TREASURY_ADDRESS = treasury;
    }

    function _index() internal view override returns (uint256) {
        return ILendingPool(POOL).getReserveNormalizedIncome(UNDERLYING_ASSET_ADDRESS);
    }

    function mint(address caller, address to, uint256 amount, uint256 index) external onlyPool returns (bool) {
        return _mintScaled(caller, to, amount, index);
    }

    function mintToTreasury(uint256 amount, uint256 index) external onlyPool {
        _mintScaled(POOL, RESERVE_TREASURY_ADDRESS, amount, index);
    }

    function burn(address from, address to, uint256 amount, uint256 index) external onlyPool {
        _burnScaled(from, to, amount, index);
        IERC20(UNDERLYING_ASSET_ADDRESS).transfer(to, amount);
    }

    function transferUnderlyingTo(address to, uint256 amount) external onlyPool {
        IERC20(UNDERLYING_ASSET_ADDRESS).transfer(to, amount);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        allowance[from][msg.sender] -= value;
        _move(from, to, value);
        return true;
    }

    function _move(address from, address to, uint256 value) private {
        uint256 index = _index();
        uint256 fromBefore = balanceOf(from);
        uint256 toBefore = balanceOf(to);
        uint256 scaled = Ray.div(value, index);
        uint256 fromIncrease = _settle(from, index);
        uint256 toIncrease = _settle(to, index);
        scaledBalanceOf[from] -= scaled;
        scaledBalanceOf[to] += scaled;
        _credit(from, fromIncrease, index);
        if (from != to) _credit(to, toIncrease, index);
        emit Transfer(from, to, value);
        ILendingPool(POOL).finalizeTransfer(UNDERLYING_ASSET_ADDRESS, from, to, value, fromBefore, toBefore);
        emit BalanceTransfer(from, to, scaled, index);
    }

    function _credit(address holder, uint256 increase, uint256 index) private {
        if (increase == 0) return;
        emit Transfer(address(0), holder, increase);
        emit Mint(msg.sender, holder, increase, increase, index);
    }
}

/// @title What is owed to the lending pool at a variable rate, in the shape of Aave's VariableDebtToken.
/// @notice It can't be transferred. A holder may allow somebody to borrow for it.
contract VariableDebtToken is ScaledToken {
    bytes32 public constant DELEGATION_WITH_SIG_TYPEHASH =
        keccak256("DelegationWithSig(address delegatee,uint256 value,uint256 nonce,uint256 deadline)");

    mapping(address from => mapping(address to => uint256 amount)) public borrowAllowance;
    mapping(address owner => uint256 next) public nonces;

    event BorrowAllowanceDelegated(
        address indexed fromUser, address indexed toUser, address indexed asset, uint256 amount
    );

    constructor(string memory name_, string memory symbol_, address pool, address underlying)
        ScaledToken(name_, symbol_, pool, underlying)
    {}

    function _index() internal view override returns (uint256) {
        return ILendingPool(POOL).getReserveNormalizedVariableDebt(UNDERLYING_ASSET_ADDRESS);
    }

    function mint(address caller, address to, uint256 amount, uint256 index)
        external
        onlyPool
        returns (bool first, uint256 scaledTotal)
    {
        if (caller != to) _delegate(to, caller, borrowAllowance[to][caller] - amount);
        return (_mintScaled(caller, to, amount, index), scaledTotalSupply);
    }

    function burn(address from, uint256 amount, uint256 index) external onlyPool returns (uint256) {
        _burnScaled(from, address(0), amount, index);
        return scaledTotalSupply;
    }

    function approveDelegation(address to, uint256 amount) external {
        _delegate(msg.sender, to, amount);
    }

    /// @notice Allows `to` to borrow up to `value` for `from`, by a signature of EIP-712.
    function delegationWithSig(
        address from,
        address to,
        uint256 value,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        require(block.timestamp <= deadline, "78");
        bytes32 message = keccak256(abi.encode(DELEGATION_WITH_SIG_TYPEHASH, to, value, nonces[from]++, deadline));
        address signer = ecrecover(keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR(), message)), v, r, s);
        require(signer != address(0) && signer == from, "79");
        _delegate(from, to, value);
    }

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                address(this)
            )
        );
    }

    function _delegate(address from, address to, uint256 amount) private {
        borrowAllowance[from][to] = amount;
        emit BorrowAllowanceDelegated(from, to, UNDERLYING_ASSET_ADDRESS, amount);
    }
}

/// @title The debt at a stable rate, which the pool doesn't offer: nobody has any.
contract StableDebtToken {
    string public name;
    string public symbol;
    address public immutable UNDERLYING_ASSET_ADDRESS;

    constructor(string memory name_, string memory symbol_, address underlying) {
        name = name_;
        symbol = symbol_;
        UNDERLYING_ASSET_ADDRESS = underlying;
    }

    function decimals() external view returns (uint8) {
        return IERC20(UNDERLYING_ASSET_ADDRESS).decimals();
    }

    function totalSupply() external pure returns (uint256) {
        return 0;
    }

    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function principalBalanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function getUserStableRate(address) external pure returns (uint256) {
        return 0;
    }
}
