package suitetest

import (
	"context"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

func startProof(t *testing.T, ctx context.Context, c *demo.Clients, id string) *walletv1.StartOwnershipProofResponse {
	t.Helper()
	resp, err := c.Wallets.StartOwnershipProof(ctx, &walletv1.StartOwnershipProofRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// wantMessage checks that a wallet has to be proven by a signature.
func wantMessage(t *testing.T, who string, got *walletv1.StartOwnershipProofResponse) {
	t.Helper()
	if got.GetMessage() == "" || got.GetExpireTime() == nil || got.GetWallet() != nil {
		t.Errorf("%s: got %v, want a message to sign", who, got)
	}
}

func TestAWalletThatSignsInIsProvenWithoutASignature(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	alice := s.Chain.Cast().Alice
	contract, err := s.Chain.DeployWallet(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	create := func(ctx context.Context, account string) string {
		made, err := c.Wallets.CreateWallet(ctx,
			&walletv1.CreateWalletRequest{Account: account, AllowUnconfiguredChain: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, err := c.Wallets.DeleteWallet(context.WithoutCancel(ctx),
				&walletv1.DeleteWalletRequest{WalletId: made.GetWallet().GetId()})
			if err != nil {
				t.Error(err)
			}
		})
		return made.GetWallet().GetId()
	}
	for _, address := range []common.Address{alice.Address, contract} {
		tokens, err := signInWithWallet(t.Context(), c, s.Chain.ChainID(), address.Hex(), alice)
		if err != nil {
			t.Fatal(err)
		}
		owner := grpcclient.WithToken(t.Context(), tokens.GetAccessToken())
		other, _ := signIn(t, c)
		id := create(owner, account(s, address))
		wantMessage(t, "an API key", startProof(t, withAPIKey(t, owner, c), c, id))
		wantMessage(t, "somebody else with this account",
			startProof(t, other, c, create(other, account(s, address))))
		wantMessage(t, "another account of the owner",
			startProof(t, owner, c, create(owner, account(s, s.Chain.Cast().Bob.Address))))
		if address == contract {
			wantMessage(t, "the contract's address on another chain",
				startProof(t, owner, c, create(owner, "eip155:1:"+contract.Hex())))
		}

		for range 2 { // it may be repeated
			got := startProof(t, owner, c, id)
			o := got.GetWallet().GetOwnership()
			if got.GetMessage() != "" || o.GetProof() != walletv1.OwnershipProof_OWNERSHIP_PROOF_IDENTITY ||
				o.GetState() != walletv1.OwnershipState_OWNERSHIP_STATE_PROVEN || o.GetProveTime() == nil {
				t.Fatalf("of %s: got %v, want a wallet that is proven", address, got)
			}
			stored, err := c.Wallets.GetWallet(owner, &walletv1.GetWalletRequest{WalletId: id})
			if err != nil || stored.GetWallet().GetEtag() != got.GetWallet().GetEtag() {
				t.Errorf("got %v, %v, want the wallet that was returned", stored, err)
			}
		}
	}
}

// withAPIKey returns a context with a token of a new API key of the user in ctx.
func withAPIKey(t *testing.T, ctx context.Context, c *demo.Clients) context.Context {
	t.Helper()
	made, err := c.APIKeys.CreateApiKey(ctx,
		&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read", "wallet:write"}})
	if err != nil {
		t.Fatal(err)
	}
	exchanged, err := c.APIKeys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: made.GetKey()})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), exchanged.GetAccessToken())
}
