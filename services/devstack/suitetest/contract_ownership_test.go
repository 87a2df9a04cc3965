package suitetest

import (
	"fmt"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// The owners of a real Safe prove the wallet off chain (ERC-1271), on chain (an empty signature), and before it is
// deployed (ERC-6492); an account with a key proves it in the compact form (EIP-2098) too. The wallet service asks the
// nodes that it reads balances from.
func TestARealSafeAndCompactSignaturesProveOwnership(t *testing.T) {
	a := startAnvil(t)
	s, err := suite.Start(t.Context(), withoutSyncJob(suite.Options{Dir: testkit.Folder(t), History: history,
		Extra: map[string][]string{"wallet": {fmt.Sprintf("PURSER_CHAIN_RPC_URLS=%d=%s", anvilChain, a.url)}}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, safes := dial(t, s.Endpoints), deploySafes(a)
	ctx, _ := signInUntil(t, t.Context(), c)
	// prove is StartOwnershipProof and FinishOwnershipProof for a new wallet.
	prove := func(address common.Address, sign func(message string) []byte) (*walletv1.Ownership, error) {
		t.Helper()
		created, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
			Account: fmt.Sprintf("eip155:%d:%s", anvilChain, address.Hex())})
		if err != nil {
			t.Fatal(err)
		}
		id := created.GetWallet().GetId()
		started, err := c.Wallets.StartOwnershipProof(ctx, &walletv1.StartOwnershipProofRequest{WalletId: id})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Wallets.FinishOwnershipProof(ctx, &walletv1.FinishOwnershipProofRequest{WalletId: id,
			Message: started.GetMessage(), Signature: hexText(sign(started.GetMessage()))})
		got, getErr := c.Wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: id})
		if getErr != nil {
			t.Fatal(getErr)
		}
		if _, err := c.Wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: id}); err != nil {
			t.Fatal(err)
		}
		return got.GetWallet().GetOwnership(), err
	}
	stranger, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	safe := safes.newSafe(1)
	data, undeployedSafe := safes.creation(crypto.PubkeyToAddress(safes.owner().PublicKey), 2)
	withoutHandler := safes
	withoutHandler.handler = contract{}
	bare := withoutHandler.newSafe(3)
	compact := func(message string) []byte {
		sig, err := crypto.Sign(messageHash(message), stranger)
		if err != nil {
			t.Error(err)
		}
		sig[32] |= sig[64] << 7 // EIP-2098: the highest bit of s is v
		return sig[:64]
	}
	for name, tc := range map[string]struct {
		address common.Address
		sign    func(message string) []byte
		by      walletv1.OwnershipProof
	}{
		"signed off chain": {safe, func(m string) []byte { return safes.signedBy(safes.owner(), safe, m) },
			walletv1.OwnershipProof_OWNERSHIP_PROOF_CONTRACT},
		"signed on chain": {safe, func(m string) []byte { safes.approve(safe, m); return nil },
			walletv1.OwnershipProof_OWNERSHIP_PROOF_CONTRACT},
		"not deployed yet": {undeployedSafe, func(m string) []byte {
			return undeployed(t, safes.factory.address, data, safes.signedBy(safes.owner(), undeployedSafe, m))
		}, walletv1.OwnershipProof_OWNERSHIP_PROOF_CONTRACT},
		"compact": {crypto.PubkeyToAddress(stranger.PublicKey), compact,
			walletv1.OwnershipProof_OWNERSHIP_PROOF_KEY},
	} {
		got, err := prove(tc.address, tc.sign)
		if err != nil || got.GetProof() != tc.by || got.GetProveTime() == nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, tc := range map[string]struct {
		address common.Address
		sign    func(message string) []byte
		code    codes.Code
		reason  string
	}{
		"by a stranger": {safe, func(m string) []byte { return safes.signedBy(stranger, safe, m) },
			codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
		"of another message": {safe, func(m string) []byte { return safes.signedBy(safes.owner(), safe, m+".") },
			codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
		"nobody signed on chain": {safe, func(string) []byte { return nil },
			codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
		// It answers every call that it doesn't know with success and nothing.
		"without a fallback handler": {bare, func(m string) []byte { return safes.signedBy(safes.owner(), bare, m) },
			codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
		"undeployed, by a stranger": {undeployedSafe, func(m string) []byte {
			return undeployed(t, safes.factory.address, data, safes.signedBy(stranger, undeployedSafe, m))
		}, codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
		"compact, of another account": {crypto.PubkeyToAddress(safes.owner().PublicKey), compact,
			codes.FailedPrecondition, "OWNERSHIP_SIGNATURE_INVALID"},
	} {
		got, err := prove(tc.address, tc.sign)
		if got.GetProveTime() != nil {
			t.Errorf("%s: %v", name, got)
		}
		wantError(t, err, tc.code, tc.reason)
	}
	var code hexutil.Bytes
	if safes.ask(&code, "eth_getCode", undeployedSafe, "latest"); len(code) > 0 {
		t.Error("the proof has deployed the wallet")
	}
}
