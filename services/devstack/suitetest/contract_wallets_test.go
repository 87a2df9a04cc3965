package suitetest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// walletSignIn signs wallets of anvil's chain in to a suite.
type walletSignIn struct {
	t *testing.T
	*demo.Clients
}

func startWalletSignIn(t *testing.T) (walletSignIn, safes) {
	t.Helper()
	a := startAnvil(t)
	s, err := suite.Start(t.Context(), withoutSyncJob(suite.Options{Dir: testkit.Folder(t), History: history,
		Extra: map[string][]string{"auth": {"PURSER_ATTEMPTS_PER_ADDRESS=10000",
			fmt.Sprintf("PURSER_CHAIN_RPC_URLS=%d=%s", anvilChain, a.url),
			fmt.Sprintf("PURSER_SIWE_CHAINS=%d", anvilChain)}}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return walletSignIn{t, dial(t, s.Endpoints)}, deploySafes(a)
}

// message is one to sign in with.
func (w walletSignIn) message(address common.Address) string {
	w.t.Helper()
	started, err := w.Sessions.StartWalletLogin(w.t.Context(),
		&authv1.StartWalletLoginRequest{Address: address.Hex(), ChainId: anvilChain})
	if err != nil {
		w.t.Fatal(err)
	}
	return started.GetMessage()
}

// finish signs in with a signature as it is written in the request.
func (w walletSignIn) finish(message, signature string) (*authv1.Tokens, error) {
	resp, err := w.Sessions.FinishWalletLogin(w.t.Context(),
		&authv1.FinishWalletLoginRequest{Message: message, Signature: signature})
	return resp.GetTokens(), err
}

// signIn returns the id of the account that the signature of a new message signs in to.
func (w walletSignIn) signIn(address common.Address, sign func(message string) string) (string, error) {
	w.t.Helper()
	message := w.message(address)
	tokens, err := w.finish(message, sign(message))
	if err != nil {
		return "", err
	}
	ctx := grpcclient.WithToken(w.t.Context(), tokens.GetAccessToken())
	list, err := w.Identities.ListIdentities(ctx, &authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 1 ||
		list.GetIdentities()[0].GetSubject() != fmt.Sprintf("%d:%s", anvilChain, strings.ToLower(address.Hex())) {
		w.t.Fatal(list, err)
	}
	return me(w.t, w.Clients, tokens).GetId(), nil
}

func hexText(b []byte) string { return "0x" + hex.EncodeToString(b) }

func TestARealSafeSignsInWhereverItsOwnersSign(t *testing.T) {
	w, s := startWalletSignIn(t)
	safe := s.newSafe(1)
	offChain := func(message string) string { return hexText(s.signedBy(s.owner(), safe, message)) }
	id, err := w.signIn(safe, offChain)
	if err != nil {
		t.Fatal("signed off chain:", err)
	}
	for _, empty := range []string{"0x", ""} {
		onChain := func(message string) string { s.approve(safe, message); return empty }
		if again, err := w.signIn(safe, onChain); err != nil || again != id {
			t.Errorf("signed on chain, %q: %s %v", empty, again, err)
		}
		_, err = w.signIn(safe, func(string) string { return empty }) // the control: nobody has signed this one
		wantError(t, err, codes.Unauthenticated, "WALLET_SIGNATURE_INVALID")
	}
	stranger, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.signIn(safe, func(m string) string { return hexText(s.signedBy(stranger, safe, m)) })
	wantError(t, err, codes.Unauthenticated, "WALLET_SIGNATURE_INVALID")

	account := crypto.PubkeyToAddress(stranger.PublicKey) // an account with a key
	for _, empty := range []string{"0x", ""} {
		_, err = w.finish(w.message(account), empty)
		wantError(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		if e := errs.As(err); e.Violations[0].Field != "signature" ||
			!strings.Contains(e.Violations[0].Rule, "there is no contract at the address") {
			t.Error(err)
		}
	}

	user, _ := signInUntil(t, t.Context(), w.Clients)
	for number, sign := range map[int64]func(common.Address, string) string{
		2: func(safe common.Address, m string) string { return hexText(s.signedBy(s.owner(), safe, m)) },
		3: func(safe common.Address, m string) string { s.approve(safe, m); return "0x" },
	} {
		linked := s.newSafe(number)
		started, err := w.Identities.StartWalletLink(user,
			&authv1.StartWalletLinkRequest{Address: strings.ToLower(linked.Hex()), ChainId: anvilChain})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Identities.LinkWallet(user, &authv1.LinkWalletRequest{Message: started.GetMessage(),
			Signature: sign(linked, started.GetMessage())}); err != nil {
			t.Error("linked:", err)
		}
	}

	message := w.message(safe)
	s.stop()
	_, err = w.finish(message, offChain(message)) // an outage is one
	wantError(t, err, codes.Unavailable, "CHAIN_UNAVAILABLE")
}

func TestARealWalletThatIsNotDeployedSignsInAndKeepsItsAccount(t *testing.T) {
	w, s := startWalletSignIn(t)
	owner := s.owner()
	data, safe := s.creation(crypto.PubkeyToAddress(owner.PublicKey), 1)
	otherData, other := s.creation(crypto.PubkeyToAddress(owner.PublicKey), 2)
	stranger, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	sign := func(m string) []byte { return s.signedBy(owner, safe, m) }
	wrap := func(m string) string { return hexText(undeployed(t, s.factory.address, data, sign(m))) }
	id, err := w.signIn(safe, wrap)
	if err != nil {
		t.Fatal(err)
	}
	var code hexutil.Bytes
	if s.ask(&code, "eth_getCode", safe, "latest"); len(code) > 0 {
		t.Fatal("the sign-in has deployed the wallet")
	}
	eater := common.HexToAddress("0x1111111111111111111111111111111111111111")
	s.ask(nil, "anvil_setCode", eater, "0x5b600056") // an endless loop
	by := func(factory common.Address, call []byte) func(string) string {
		return func(m string) string { return hexText(undeployed(t, factory, call, sign(m))) }
	}
	wrong := map[string]func(m string) string{
		"by a stranger": func(m string) string {
			return hexText(undeployed(t, s.factory.address, data, s.signedBy(stranger, safe, m)))
		},
		"of another message":  func(m string) string { return wrap(m + ".") },
		"no signature inside": func(string) string { return hexText(undeployed(t, s.factory.address, data, nil)) },
	}
	undone := map[string]func(m string) string{ // the deployment isn't done
		"without the deployment":     func(m string) string { return hexText(sign(m)) },
		"the factory reverts":        by(s.factory.address, data[:40]),
		"the factory deploys others": by(s.factory.address, otherData),
		"a factory without code":     by(other, data),
		"the factory eats the gas":   by(eater, data),
	}
	refuse := func(when string, forgeries map[string]func(m string) string) {
		for name, forge := range forgeries {
			begun := time.Now()
			_, err := w.signIn(safe, forge)
			if e := errs.As(err); e == nil || e.Reason != "WALLET_SIGNATURE_INVALID" {
				t.Errorf("%s, %s: %v", when, name, err)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("%s, %s: answered after %s", when, name, took)
			}
		}
	}
	refuse("before", wrong)
	refuse("before", undone)
	s.send(&s.factory.address, data)
	for name, form := range map[string]func(string) string{
		"deployed, wrapped": wrap, "deployed, plain": func(m string) string { return hexText(sign(m)) },
	} {
		if again, err := w.signIn(safe, form); err != nil || again != id {
			t.Errorf("%s: %s %v", name, again, err)
		}
	}
	refuse("deployed", wrong)
	key := crypto.PubkeyToAddress(stranger.PublicKey) // whoever has a key needs no wrapping, and has no wallet there
	_, err = w.signIn(key, func(m string) string {
		sig, err := crypto.Sign(messageHash(m), stranger)
		if err != nil {
			t.Fatal(err)
		}
		return hexText(undeployed(t, s.factory.address, data, sig))
	})
	wantError(t, err, codes.Unauthenticated, "WALLET_SIGNATURE_INVALID")
}

func TestAContractOnARealNodeThatFailsRefusesAndTheChainIsAvailable(t *testing.T) {
	w, s := startWalletSignIn(t)
	address := common.HexToAddress("0x2222222222222222222222222222222222222222")
	for name, code := range failingCode() {
		s.ask(nil, "anvil_setCode", address, hexText(code))
		_, err := w.finish(w.message(address), "0x1234")
		if e := errs.As(err); e == nil || e.Reason != "WALLET_SIGNATURE_INVALID" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failingCode is code of contracts that end a call otherwise than by an answer.
func failingCode() map[string][]byte {
	return map[string][]byte{
		"INVALID": {0xfe}, "an unknown opcode": {0x0c}, "a revert": {0x5f, 0x5f, 0xfd}, "nothing": {0x00},
		"an endless loop": {0x5b, 0x5f, 0x56}, "an empty stack": {0x50}, "a jump to nowhere": {0x60, 0x20, 0x56},
		"a write of 64 GiB of memory": {0x5f, 0x64, 0xf, 0xff, 0xff, 0xff, 0xff, 0x52},
	}
}
