package chain

import "github.com/ethereum/go-ethereum/common"

// What the plan's transactions cost. The price is fixed and the transactions are
// of the legacy kind, so a fee is gas × gasPrice whatever the base fee is.
const (
	// gasPrice is in wei.
	gasPrice = 1_000_000_000

	etherTransferGas = 21_000

	// erc20TransferGas is a transfer between two balances that are not zero before
	// or after, without its call data: 21,000 for the transaction and the rest for
	// the compiled ERC20's own steps. A test compares it with receipts.
	erc20TransferGas = 33_663

	// freshSlotGas is added when the receiver had nothing (EIP-2929: 20,000 in
	// place of 2,900).
	freshSlotGas = 17_100

	// clearedSlotRefund is given back when the sender keeps nothing (EIP-3529).
	clearedSlotRefund = 4_800

	// Call data costs by the byte (EIP-2028).
	zeroByteGas, otherByteGas = 4, 16

	// transferGasLimit, deployGasLimit and callGasLimit are the limits that transactions carry.
	transferGasLimit = 100_000
	deployGasLimit   = 2_000_000
	callGasLimit     = 2_000_000
)

// tokenTransferGas is the gas that a token's transfer uses up.
func tokenTransferGas(m Move, fresh, cleared bool) uint64 {
	gas := uint64(erc20TransferGas)
	for _, b := range transferCall(m.To, m.Amount) {
		if b == 0 {
			gas += zeroByteGas
		} else {
			gas += otherByteGas
		}
	}
	if fresh {
		gas += freshSlotGas
	}
	if cleared {
		gas -= clearedSlotRefund
	}
	return gas
}

// transferSelector is the first four bytes of the hash of
// transfer(address,uint256).
func transferSelector() [4]byte { return [4]byte{0xa9, 0x05, 0x9c, 0xbb} }

// transferCall is the call data of transfer(to, amount).
func transferCall(to common.Address, amount interface{ Bytes32() [32]byte }) []byte {
	selector := transferSelector()
	word := amount.Bytes32()
	data := append(selector[:], common.LeftPadBytes(to[:], 32)...)
	return append(data, word[:]...)
}
