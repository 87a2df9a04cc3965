package caip

// NativeAsset is the native coin of an EVM chain.
func NativeAsset(chain uint64) Asset { return Asset{Chain: chain, Native: true, Coin: coinType(chain)} }

// coinType returns the SLIP-44 number of a chain's native coin: ether's unless the
// chain has a coin of its own.
func coinType(chain uint64) uint32 {
	switch chain {
	case 30:
		return 137
	case 31:
		return 37310
	case 56:
		return 714
	case 100:
		return 700
	case 137:
		return 966
	case 43114:
		return 9005
	default:
		return 60
	}
}
