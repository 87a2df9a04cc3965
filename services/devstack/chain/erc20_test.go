package chain_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
)

// sender sends transactions as one account, numbering them itself.
type sender struct {
	reader
	chain *chain.Chain
	from  chain.Account
	nonce uint64
}

// do sends data to an address (nil makes a contract) in a block of its own.
func (s *sender) do(to *common.Address, data []byte) *types.Receipt {
	s.t.Helper()
	signer := types.LatestSignerForChainID(new(big.Int).SetUint64(s.chain.ChainID()))
	tx, err := types.SignNewTx(s.from.Key(), signer, &types.LegacyTx{
		Nonce: s.nonce, GasPrice: big.NewInt(1e9), Gas: 2_000_000, To: to, Data: data,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.nonce++
	if err := s.SendTransaction(s.t.Context(), tx); err != nil {
		s.t.Fatal(err)
	}
	mine(s.t, s.chain)
	receipt, err := s.TransactionReceipt(s.t.Context(), tx.Hash())
	if err != nil {
		s.t.Fatal(err)
	}
	return receipt
}

func (s *sender) succeeds(token common.Address, method string, args ...any) {
	s.t.Helper()
	if r := s.do(&token, s.pack(method, args...)); r.Status != types.ReceiptStatusSuccessful {
		s.t.Errorf("%s by %s failed", method, s.from.Name)
	} else if len(r.Logs) != 1 {
		s.t.Errorf("%s by %s wrote %d events, want one", method, s.from.Name, len(r.Logs))
	}
}

func (s *sender) fails(token common.Address, method string, args ...any) {
	s.t.Helper()
	if r := s.do(&token, s.pack(method, args...)); r.Status != types.ReceiptStatusFailed {
		s.t.Errorf("%s by %s went through", method, s.from.Name)
	}
}

// deploy makes a token that belongs to the faucet.
func deploy(t *testing.T, c *chain.Chain, decimals uint8, supply *uint256.Int) (common.Address, *sender) {
	t.Helper()
	faucet := &sender{reader: dial(t, c), chain: c, from: c.Cast().Faucet}
	args := faucet.pack("", "Odd Token", "ODD", decimals, supply.ToBig(), faucet.from.Address)
	receipt := faucet.do(nil, append(faucet.erc20.Creation, args...))
	if receipt.Status != types.ReceiptStatusSuccessful {
		t.Fatal("the token wasn't made")
	}
	return receipt.ContractAddress, faucet
}

func TestATokenCanHave255DecimalsAndTheLargestSupply(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	supply := new(uint256.Int).SetAllOne()
	odd, faucet := deploy(t, c, 255, supply)
	var decimals uint8
	faucet.call(odd, nil, &decimals, "decimals")
	if have := faucet.balance(faucet.from.Address, odd, nil); decimals != 255 || !have.Eq(supply) {
		t.Errorf("%d decimals and a balance of %s", decimals, have)
	}
	faucet.succeeds(odd, "transfer", faucet.from.Address, supply.ToBig())
	if have := faucet.balance(faucet.from.Address, odd, nil); !have.Eq(supply) {
		t.Errorf("sending everything to oneself leaves %s", have)
	}
}

func TestAllowancesAreSpentAndUnlimitedOnesAreNot(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	odd, faucet := deploy(t, c, 0, uint256.NewInt(1_000))
	owner, friend := faucet.from.Address, &sender{reader: faucet.reader, chain: c, from: c.Cast().Vault}
	allowance := func() *big.Int {
		var left *big.Int
		faucet.call(odd, nil, &left, "allowance", owner, friend.from.Address)
		return left
	}

	friend.fails(odd, "transferFrom", owner, friend.from.Address, big.NewInt(1))
	faucet.succeeds(odd, "approve", friend.from.Address, big.NewInt(10))
	friend.succeeds(odd, "transferFrom", owner, friend.from.Address, big.NewInt(4))
	if left := allowance(); left.Int64() != 6 {
		t.Errorf("%s of the allowance left, want 6", left)
	}
	friend.fails(odd, "transferFrom", owner, friend.from.Address, big.NewInt(7))

	unlimited := new(uint256.Int).SetAllOne().ToBig()
	faucet.succeeds(odd, "approve", friend.from.Address, unlimited)
	friend.succeeds(odd, "transferFrom", owner, friend.from.Address, big.NewInt(90))
	friend.fails(odd, "transferFrom", owner, friend.from.Address, big.NewInt(907))
	if left := allowance(); left.Cmp(unlimited) != 0 {
		t.Errorf("an unlimited allowance fell to %s", left)
	}
	if have := friend.balance(friend.from.Address, odd, nil); have.Uint64() != 94 {
		t.Errorf("the friend has %s, want 94", have)
	}
}

func TestNothingGoesToTheZeroAddress(t *testing.T) {
	t.Parallel()
	c := start(t, withShortHistory)
	odd, faucet := deploy(t, c, 0, uint256.NewInt(1_000))
	faucet.fails(odd, "transfer", common.Address{}, big.NewInt(1))
	faucet.fails(odd, "approve", common.Address{}, big.NewInt(1))
	faucet.fails(odd, "transfer", c.Cast().Vault.Address, big.NewInt(1_001))
}
