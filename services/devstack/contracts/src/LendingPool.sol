// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import "./Interfaces.sol";
import "./Ray.sol";

/// @title A lending pool in the shape of Aave v3's: the same calls, results and events, and the same rounding.
/// @notice Left out: debt at a stable rate, e-mode, isolation, caps, flash loans, bridges and liquidation.
/// Reverts have Aave's numbers, such as "35" for a health factor under 1.
/// @dev Made for a local development chain; nobody has audited it.
contract LendingPool is ILendingPool {
    struct ReserveConfigurationMap {
        uint256 data;
    }

    struct UserConfigurationMap {
        uint256 data;
    }

    struct ReserveData {
        ReserveConfigurationMap configuration;
        uint128 liquidityIndex;
        uint128 currentLiquidityRate;
        uint128 variableBorrowIndex;
        uint128 currentVariableBorrowRate;
        uint128 currentStableBorrowRate;
        uint40 lastUpdateTimestamp;
        uint16 id;
        address aTokenAddress;
        address stableDebtTokenAddress;
        address variableDebtTokenAddress;
        address interestRateStrategyAddress;
        uint128 accruedToTreasury;
        uint128 unbacked;
        uint128 isolationModeTotalDebt;
    }

    struct EModeCategory {
        uint16 ltv;
        uint16 liquidationThreshold;
        uint16 liquidationBonus;
        address priceSource;
        string label;
    }

    /// @dev What an account has and owes, in the oracle's currency.
    struct Account {
        uint256 collateral;
        uint256 debt;
        uint256 ltv;
        uint256 threshold;
        uint256 health;
        bool zeroLtv;
    }

    address public immutable ADDRESSES_PROVIDER;
    address private immutable lister;
    /// @notice The number of ids given; those of dropped reserves are not given again.
    uint16 private count;
    mapping(address asset => ReserveData) private reserves;
    mapping(uint256 id => address asset) private assets;
    mapping(address user => uint256 bits) private users;

    uint256 private constant VARIABLE = 2;

    event ReserveDataUpdated(
        address indexed reserve,
        uint256 liquidityRate,
        uint256 stableBorrowRate,
        uint256 variableBorrowRate,
        uint256 liquidityIndex,
        uint256 variableBorrowIndex
    );
    event Supply(
        address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed referralCode
    );
    event Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount);
    event Borrow(
        address indexed reserve,
        address user,
        address indexed onBehalfOf,
        uint256 amount,
        uint8 interestRateMode,
        uint256 borrowRate,
        uint16 indexed referralCode
    );
    event Repay(
        address indexed reserve, address indexed user, address indexed repayer, uint256 amount, bool useATokens
    );
    event ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user);
    event ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user);
    event MintedToTreasury(address indexed reserve, uint256 amountMinted);

    constructor(address provider) {
        ADDRESSES_PROVIDER = provider;
        lister = msg.sender;
    }

    /// @notice Adds a reserve. `tokens` are its supply, stable debt and variable debt token and its rates.
    /// `configuration` has Aave's bits: loan to value, threshold and bonus in hundredths of a percent from bits
    /// 0, 16 and 32 on, decimals from 48, active 56, borrowing 58, and the treasury's share from 64.
    function addReserve(address asset, address[4] calldata tokens, uint256 configuration) external {
        require(msg.sender == lister, "not the lister");
        ReserveData storage r = reserves[asset];
        require(r.aTokenAddress == address(0), "14");
        r.configuration.data = configuration;
        r.liquidityIndex = uint128(Ray.ONE);
        r.variableBorrowIndex = uint128(Ray.ONE);
        (r.aTokenAddress, r.stableDebtTokenAddress) = (tokens[0], tokens[1]);
        (r.variableDebtTokenAddress, r.interestRateStrategyAddress) = (tokens[2], tokens[3]);
        r.id = count;
        assets[count++] = asset;
    }

    /// @notice Removes a reserve that nobody uses. Its id stays unused.
    function dropReserve(address asset) external {
        require(msg.sender == lister, "not the lister");
        ReserveData storage r = reserves[asset];
        require(IScaledToken(r.variableDebtTokenAddress).scaledTotalSupply() == 0, "56");
        require(IScaledToken(r.aTokenAddress).scaledTotalSupply() == 0, "54");
        delete assets[r.id];
        delete reserves[asset];
    }

    function supply(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external {
        ReserveData storage r = reserves[asset];
        uint256 scaledDebt = _accrue(r);
        _usable(r, amount);
        _setRates(asset, scaledDebt, amount, 0);
        IERC20(asset).transferFrom(msg.sender, r.aTokenAddress, amount);
        bool first = ISupplyToken(r.aTokenAddress).mint(msg.sender, onBehalfOf, amount, r.liquidityIndex);
        if (first && _ltv(r) != 0) _useAsCollateral(asset, onBehalfOf, true);
        emit Supply(asset, msg.sender, onBehalfOf, amount, referralCode);
    }

    function withdraw(address asset, uint256 amount, address to) external returns (uint256) {
        ReserveData storage r = reserves[asset];
        uint256 scaledDebt = _accrue(r);
        uint256 balance = Ray.mul(ISupplyToken(r.aTokenAddress).scaledBalanceOf(msg.sender), r.liquidityIndex);
        if (amount == type(uint256).max) amount = balance;
        _usable(r, amount);
        require(amount <= balance, "32");
        _setRates(asset, scaledDebt, 0, amount);
        bool collateral = _isCollateral(msg.sender, r.id);
        if (collateral && amount == balance) _useAsCollateral(asset, msg.sender, false);
        ISupplyToken(r.aTokenAddress).burn(msg.sender, to, amount, r.liquidityIndex);
        if (collateral && _borrowsAny(msg.sender)) _requireHealthy(msg.sender, r);
        emit Withdraw(asset, msg.sender, to, amount);
        return amount;
    }

    /// @notice Borrows for the caller, or for an account that has delegated to it. `mode` must be 2.
    function borrow(address asset, uint256 amount, uint256 mode, uint16 referralCode, address onBehalfOf) external {
        ReserveData storage r = reserves[asset];
        _accrue(r);
        _usable(r, amount);
        require(r.configuration.data >> 58 & 1 == 1, "30");
        _requireCover(asset, amount, mode, onBehalfOf);
        (bool first, uint256 scaledDebt) =
            IDebtToken(r.variableDebtTokenAddress).mint(msg.sender, onBehalfOf, amount, r.variableBorrowIndex);
        if (first) users[onBehalfOf] |= 1 << (2 * r.id);
        _setRates(asset, scaledDebt, 0, amount);
        ISupplyToken(r.aTokenAddress).transferUnderlyingTo(msg.sender, amount);
        uint256 rate = r.currentVariableBorrowRate;
        emit Borrow(asset, msg.sender, onBehalfOf, amount, uint8(VARIABLE), rate, referralCode);
    }

    /// @notice Pays back the caller's debt or somebody's. `amount` 2**256-1 is all of the caller's own.
    function repay(address asset, uint256 amount, uint256 mode, address onBehalfOf) external returns (uint256) {
        ReserveData storage r = reserves[asset];
        _accrue(r);
        IDebtToken token = IDebtToken(r.variableDebtTokenAddress);
        _usable(r, amount);
        require(amount != type(uint256).max || msg.sender == onBehalfOf, "40");
        uint256 debt = Ray.mul(token.scaledBalanceOf(onBehalfOf), r.variableBorrowIndex);
        require(debt != 0 && mode == VARIABLE, "39");
        if (amount > debt) amount = debt;
        uint256 scaledDebt = token.burn(onBehalfOf, amount, r.variableBorrowIndex);
        _setRates(asset, scaledDebt, amount, 0);
        if (amount == debt) users[onBehalfOf] &= ~(1 << (2 * r.id));
        IERC20(asset).transferFrom(msg.sender, r.aTokenAddress, amount);
        emit Repay(asset, onBehalfOf, msg.sender, amount, false);
        return amount;
    }

    function setUserUseReserveAsCollateral(address asset, bool use) external {
        ReserveData storage r = reserves[asset];
        require(IERC20(r.aTokenAddress).balanceOf(msg.sender) != 0, "43");
        if (use == _isCollateral(msg.sender, r.id)) return;
        require(!use || _ltv(r) != 0, "62");
        _useAsCollateral(asset, msg.sender, use);
        if (!use) _requireHealthy(msg.sender, r);
    }

    /// @notice Mints the treasury's share of the interest so far.
    function mintToTreasury(address[] calldata list) external {
        for (uint256 i = 0; i < list.length; i++) {
            ReserveData storage r = reserves[list[i]];
            uint256 scaled = r.accruedToTreasury;
            if (scaled == 0) continue;
            r.accruedToTreasury = 0;
            uint256 income = getReserveNormalizedIncome(list[i]);
            ISupplyToken(r.aTokenAddress).mintToTreasury(Ray.mul(scaled, income), income);
            emit MintedToTreasury(list[i], Ray.mul(scaled, income));
        }
    }

    /// @notice Called by a supply token after a transfer, with the balances before it.
    function finalizeTransfer(
        address asset,
        address from,
        address to,
        uint256 amount,
        uint256 fromBefore,
        uint256 toBefore
    ) external {
        ReserveData storage r = reserves[asset];
        require(msg.sender == r.aTokenAddress, "11");
        if (from == to || amount == 0) return;
        if (_isCollateral(from, r.id)) {
            if (_borrowsAny(from)) _requireHealthy(from, r);
            if (fromBefore == amount) _useAsCollateral(asset, from, false);
        }
        if (toBefore == 0 && _ltv(r) != 0) _useAsCollateral(asset, to, true);
    }

    function getReservesList() external view returns (address[] memory list) {
        uint256 dropped;
        list = new address[](count);
        for (uint256 i = 0; i < count; i++) {
            if (assets[i] == address(0)) dropped++;
            else list[i - dropped] = assets[i];
        }
        assembly {
            mstore(list, sub(mload(list), dropped))
        }
    }

    function getReserveAddressById(uint16 id) external view returns (address) {
        return assets[id];
    }

    function getReserveData(address asset) external view returns (ReserveData memory) {
        return reserves[asset];
    }

    function getConfiguration(address asset) external view returns (ReserveConfigurationMap memory) {
        return reserves[asset].configuration;
    }

    function getUserConfiguration(address user) external view returns (UserConfigurationMap memory) {
        return UserConfigurationMap(users[user]);
    }

    function getUserEMode(address) external pure returns (uint256) {
        return 0;
    }

    function getEModeCategoryData(uint8) external pure returns (EModeCategory memory none) {}

    function getReserveNormalizedIncome(address asset) public view returns (uint256) {
        ReserveData storage r = reserves[asset];
        uint256 time = block.timestamp - r.lastUpdateTimestamp;
        return time == 0 ? r.liquidityIndex : Ray.mul(Ray.linear(r.currentLiquidityRate, time), r.liquidityIndex);
    }

    function getReserveNormalizedVariableDebt(address asset) public view returns (uint256) {
        ReserveData storage r = reserves[asset];
        uint256 time = block.timestamp - r.lastUpdateTimestamp;
        if (time == 0) return r.variableBorrowIndex;
        return Ray.mul(Ray.compound(r.currentVariableBorrowRate, time), r.variableBorrowIndex);
    }

    function getUserAccountData(address user)
        external
        view
        returns (
            uint256 totalCollateralBase,
            uint256 totalDebtBase,
            uint256 availableBorrowsBase,
            uint256 currentLiquidationThreshold,
            uint256 ltv,
            uint256 healthFactor
        )
    {
        Account memory a = _account(user);
        uint256 limit = Ray.percent(a.collateral, a.ltv);
        availableBorrowsBase = limit < a.debt ? 0 : limit - a.debt;
        return (a.collateral, a.debt, availableBorrowsBase, a.threshold, a.ltv, a.health);
    }

    /// @dev Brings a reserve's indexes up to this block. It returns the scaled debt.
    function _accrue(ReserveData storage r) private returns (uint256 scaledDebt) {
        if (r.aTokenAddress == address(0)) revert("27");
        scaledDebt = IDebtToken(r.variableDebtTokenAddress).scaledTotalSupply();
        uint256 time = block.timestamp - r.lastUpdateTimestamp;
        if (time == 0) return scaledDebt;
        if (r.currentLiquidityRate != 0) {
            r.liquidityIndex = uint128(Ray.mul(Ray.linear(r.currentLiquidityRate, time), r.liquidityIndex));
        }
        if (scaledDebt != 0) {
            uint256 before = Ray.mul(scaledDebt, r.variableBorrowIndex);
            uint256 growth = Ray.compound(r.currentVariableBorrowRate, time);
            r.variableBorrowIndex = uint128(Ray.mul(growth, r.variableBorrowIndex));
            uint256 interest = Ray.mul(scaledDebt, r.variableBorrowIndex) - before;
            uint256 share = Ray.percent(interest, uint16(r.configuration.data >> 64));
            r.accruedToTreasury += uint128(Ray.div(share, r.liquidityIndex));
        }
        r.lastUpdateTimestamp = uint40(block.timestamp);
    }

    /// @dev Sets the rates by what the reserve will have when `added` has come and `taken` has gone.
    function _setRates(address asset, uint256 scaledDebt, uint256 added, uint256 taken) private {
        ReserveData storage r = reserves[asset];
        uint256 debt = Ray.mul(scaledDebt, r.variableBorrowIndex);
        uint256 available = debt == 0 ? 0 : IERC20(asset).balanceOf(r.aTokenAddress) + added - taken;
        (uint256 liquidity, uint256 stable, uint256 variableBorrow) = ILendingRates(r.interestRateStrategyAddress)
            .rates(available, debt, uint16(r.configuration.data >> 64));
        r.currentLiquidityRate = uint128(liquidity);
        r.currentStableBorrowRate = uint128(stable);
        r.currentVariableBorrowRate = uint128(variableBorrow);
        emit ReserveDataUpdated(asset, liquidity, stable, variableBorrow, r.liquidityIndex, r.variableBorrowIndex);
    }

    function _usable(ReserveData storage r, uint256 amount) private view {
        require(amount != 0, "26");
        require(r.configuration.data >> 56 & 1 == 1, "27");
    }

    function _ltv(ReserveData storage r) private view returns (uint256) {
        return uint16(r.configuration.data);
    }

    function _isCollateral(address user, uint16 id) private view returns (bool) {
        return users[user] >> (2 * id + 1) & 1 == 1;
    }

    /// @dev Every second bit, from the first.
    function _borrowsAny(address user) private view returns (bool) {
        return users[user] & (type(uint256).max / 3) != 0;
    }

    function _useAsCollateral(address asset, address user, bool use) private {
        uint256 bit = 2 << (2 * reserves[asset].id);
        if (use) {
            users[user] |= bit;
            emit ReserveUsedAsCollateralEnabled(asset, user);
        } else {
            users[user] &= ~bit;
            emit ReserveUsedAsCollateralDisabled(asset, user);
        }
    }

    function _requireHealthy(address user, ReserveData storage r) private view {
        Account memory a = _account(user);
        require(a.health >= 1e18, "35");
        require(!a.zeroLtv || _ltv(r) == 0, "57");
    }

    function _requireCover(address asset, uint256 amount, uint256 mode, address user) private view {
        require(mode == 1 || mode == VARIABLE, "33");
        Account memory a = _account(user);
        require(a.collateral != 0, "34");
        require(a.ltv != 0, "57");
        require(a.health > 1e18, "35");
        uint256 needed = a.debt + _value(asset, amount);
        require((needed * 10_000 + a.ltv / 2) / a.ltv <= a.collateral, "36");
        require(mode == VARIABLE, "31");
    }

    function _value(address asset, uint256 amount) private view returns (uint256) {
        IPriceOracle oracle = IPriceOracle(ILendingAddresses(ADDRESSES_PROVIDER).getPriceOracle());
        return (oracle.getAssetPrice(asset) * amount) / 10 ** uint8(reserves[asset].configuration.data >> 48);
    }

    function _account(address user) private view returns (Account memory a) {
        uint256 bits = users[user];
        for (uint256 id = 0; bits >> (2 * id) != 0; id++) {
            address asset = assets[id];
            uint256 use = bits >> (2 * id) & 3;
            if (use == 0 || asset == address(0)) continue;
            _addReserve(a, user, asset, use);
        }
        if (a.collateral != 0) {
            a.ltv /= a.collateral;
            a.threshold /= a.collateral;
        }
        a.health = type(uint256).max;
        if (a.debt != 0) a.health = (Ray.percent(a.collateral, a.threshold) * 1e18 + a.debt / 2) / a.debt;
    }

    function _addReserve(Account memory a, address user, address asset, uint256 use) private view {
        ReserveData storage r = reserves[asset];
        uint256 threshold = uint16(r.configuration.data >> 16);
        if (use & 2 != 0 && threshold != 0) {
            uint256 scaled = IScaledToken(r.aTokenAddress).scaledBalanceOf(user);
            uint256 value = _value(asset, Ray.mul(scaled, getReserveNormalizedIncome(asset)));
            a.collateral += value;
            a.ltv += value * _ltv(r);
            a.threshold += value * threshold;
            if (_ltv(r) == 0) a.zeroLtv = true;
        }
        if (use & 1 != 0) {
            uint256 scaled = IScaledToken(r.variableDebtTokenAddress).scaledBalanceOf(user);
            a.debt += _value(asset, Ray.mul(scaled, getReserveNormalizedVariableDebt(asset)));
        }
    }
}
