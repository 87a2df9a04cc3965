package chain

import (
	"crypto/ecdsa"
	"fmt"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Account is an account of the local chain. Its key is public.
type Account struct {
	// Name is the account's role in the plan: "alice", "treasury" and so on.
	Name    string
	Address common.Address

	key *ecdsa.PrivateKey
}

// Key returns the private key. It is derived from a text in this file: never send anything of value to the
// address.
func (a Account) Key() *ecdsa.PrivateKey { return a.key }

// devAccount derives the account of the given name.
func devAccount(name string) Account {
	label := "purser devstack account, public and worthless: " + name
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(label)))
	if err != nil {
		// The hash is outside the curve's order: the name needs another letter.
		panic(fmt.Sprintf("chain: no key for account %q: %v", name, err))
	}
	return Account{Name: name, Address: crypto.PubkeyToAddress(key.PublicKey), key: key}
}

// Cast is the accounts of the plan.
type Cast struct {
	// Deployer creates the tokens in block 1 and does nothing else.
	Deployer Account
	// Treasury owns the tokens' supply and is the other side of most transfers.
	Treasury Account
	// Faucet has ether and tokens for Fund and Send. The plan doesn't touch it
	// after block 1.
	Faucet Account
	// Alice and Bob are the demo holders, with months of transfers. Alice never
	// held DAI; Bob never held WBTC, and sends away all his LINK on the second day.
	Alice, Bob Account
	// Vault holds 2^256-1 base units of MAX, and one ether for fees.
	Vault Account
	// Others receive from Alice and Bob now and then.
	Others [4]Account
}

// DevCast returns the accounts, which are the same on every chain.
func DevCast() Cast { return devCast() }

// devCast derives the keys once: every block and every balance of the plan needs them.
var devCast = sync.OnceValue(func() Cast {
	return Cast{
		Deployer: devAccount("deployer"),
		Treasury: devAccount("treasury"),
		Faucet:   devAccount("faucet"),
		Alice:    devAccount("alice"),
		Bob:      devAccount("bob"),
		Vault:    devAccount("vault"),
		Others: [4]Account{devAccount("other 1"), devAccount("other 2"), devAccount("other 3"),
			devAccount("other 4")},
	}
})

// feeRecipient receives the fees of every block. Its key is unknown.
func feeRecipient() common.Address {
	return common.BytesToAddress(crypto.Keccak256([]byte("purser devstack fee recipient"))[12:])
}
