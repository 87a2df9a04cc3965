// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A contract wallet of one owner, as far as signatures go (ERC-1271).
/// @notice What its owner signed, it signed: 65 bytes of r, s and v, the lower s
/// only.
/// @dev It can't send anything. Made for a local development chain; nobody has
/// audited it.
contract ERC1271Wallet {
    address public immutable owner;

    /// @dev Half the order of secp256k1 (EIP-2).
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    constructor(address owner_) {
        owner = owner_;
    }

    /// @return magic 0x1626ba7e when the owner signed `hash`, else 0xffffffff.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4 magic) {
        if (signature.length != 65) return 0xffffffff;
        bytes32 s = bytes32(signature[32:64]);
        if (uint256(s) > HALF_ORDER) return 0xffffffff;
        address signer = ecrecover(hash, uint8(signature[64]), bytes32(signature[0:32]), s);
        return signer != address(0) && signer == owner ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
