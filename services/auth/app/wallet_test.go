package app_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/sha3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/internal/ethsig"
)

func keccak(b []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	return h.Sum(nil)
}

// wallet is an account with a key.
type wallet struct {
	key     *secp256k1.PrivateKey
	address string
}

func newWallet(t *testing.T) wallet {
	t.Helper()
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return wallet{key, ethsig.Address(keccak(key.PubKey().SerializeUncompressed()[1:])[12:]).String()}
}

// sign is personal_sign: r, s and v.
func (w wallet) sign(message string) []byte {
	compact := ecdsa.SignCompact(w.key, keccak(
		fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(message), message)), false)
	return append(bytes.Clone(compact[1:]), compact[0])
}

func hexed(b []byte) string { return "0x" + hex.EncodeToString(b) }

// withWallets is a service that wallets sign in to.
func withWallets(t *testing.T, more ...string) service {
	t.Helper()
	return start(t, append([]string{
		"PURSER_REDIS_URL=" + redisOf(t), "PURSER_ATTEMPTS_PER_ADDRESS=100000",
		"PURSER_SIWE_DOMAIN=app.example", "PURSER_SIWE_CHAINS=1,137",
	}, more...)...)
}

func (s service) message(t *testing.T, address string) string {
	t.Helper()
	started, err := s.sessions.StartWalletLogin(t.Context(),
		&authv1.StartWalletLoginRequest{Address: address, ChainId: 1})
	if err != nil {
		t.Fatal(err)
	}
	return started.GetMessage()
}

func (s service) finish(t *testing.T, message string, sig []byte) (*authv1.Tokens, error) {
	t.Helper()
	resp, err := s.sessions.FinishWalletLogin(t.Context(),
		&authv1.FinishWalletLoginRequest{Message: message, Signature: hexed(sig)})
	return resp.GetTokens(), err
}

func (s service) signInWith(t *testing.T, w wallet) *authv1.Tokens {
	t.Helper()
	message := s.message(t, w.address)
	tokens, err := s.finish(t, message, w.sign(message))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestAWalletSignsInAndIsKnownTheNextTime(t *testing.T) {
	s, w := withWallets(t), newWallet(t)
	tokens := s.signInWith(t, w)
	me := s.me(t, tokens.GetAccessToken())
	if me.GetEmail() != "" || len(me.GetRoles()) != 1 {
		t.Error(me)
	}
	if again := s.me(t, s.signInWith(t, w).GetAccessToken()); again.GetId() != me.GetId() {
		t.Error("another account")
	}
	if other := s.me(t, s.signInWith(t, newWallet(t)).GetAccessToken()); other.GetId() == me.GetId() {
		t.Error("another wallet signs in to it")
	}
	list, err := s.identities.ListIdentities(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
		&authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 1 || list.GetIdentities()[0].GetProvider() != "eip155" ||
		list.GetIdentities()[0].GetSubject() != strings.ToLower(w.address) ||
		list.GetIdentities()[0].GetLabel() != w.address {
		t.Error(list, err)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(tokens.GetAccessToken(), claims); err != nil ||
		claims["amr"].([]any)[0] != "wallet" {
		t.Error(claims, err)
	}
	message := s.message(t, w.address)
	sig := w.sign(message)
	sig[64] -= 27 // as some wallets write it
	if _, err := s.finish(t, message, sig); err != nil {
		t.Error(err)
	}
}

func TestAWrongMessageOrSignatureSignsNobodyIn(t *testing.T) {
	s, w, other := withWallets(t), newWallet(t), newWallet(t)
	edit := func(old, replacement string) func(string) (string, []byte) {
		return func(m string) (string, []byte) {
			changed := strings.Replace(m, old, replacement, 1)
			if changed == m {
				t.Errorf("%q doesn't stand in\n%s", old, m)
			}
			return changed, w.sign(changed)
		}
	}
	line := func(name string, at time.Time) func(string) (string, []byte) {
		return func(m string) (string, []byte) {
			begin := strings.Index(m, name)
			end := begin + strings.Index(m[begin:]+"\n", "\n")
			changed := m[:begin] + name + at.UTC().Format(time.RFC3339) + m[end:]
			return changed, w.sign(changed)
		}
	}
	signature := func(change func(sig []byte) []byte) func(string) (string, []byte) {
		return func(m string) (string, []byte) { return m, change(w.sign(m)) }
	}
	for name, tc := range map[string]struct {
		forge  func(message string) (string, []byte)
		reason string
	}{
		"another wallet's signature": {func(m string) (string, []byte) { return m, other.sign(m) },
			"WALLET_SIGNATURE_INVALID"},
		"another address": {edit(w.address, other.address), "WALLET_NONCE_INVALID"},
		"another address, its signature": {func(m string) (string, []byte) {
			m = strings.Replace(m, w.address, other.address, 1)
			return m, other.sign(m)
		}, "WALLET_NONCE_INVALID"},
		"a byte altered": {func(m string) (string,
			[]byte) {
			return strings.Replace(m, "Sign in", "Sign on", 1), w.sign(m)
		}, "WALLET_MESSAGE_REFUSED"},
		"a second altered": {func(m string) (string, []byte) {
			i := strings.Index(m, "\nIssued At: ") + len("\nIssued At: 2026-01-01T00:00:0")
			return m[:i] + string('0'+('9'-m[i])) + m[i+1:], w.sign(m)
		}, "WALLET_SIGNATURE_INVALID"},
		"another domain": {edit("app.example wants", "app.example.evil.example wants"),
			"WALLET_MESSAGE_REFUSED"},
		"another scheme": {edit("app.example wants", "http://app.example wants"),
			"WALLET_MESSAGE_REFUSED"},
		"another URI": {edit("URI: https://app.example", "URI: https://evil.example"),
			"WALLET_MESSAGE_REFUSED"},
		"another chain":              {edit("Chain ID: 1\n", "Chain ID: 137\n"), "WALLET_NONCE_INVALID"},
		"a chain that isn't allowed": {edit("Chain ID: 1\n", "Chain ID: 10\n"), "WALLET_MESSAGE_REFUSED"},
		"a nonce that isn't ours":    {edit("Nonce: ", "Nonce: x"), "WALLET_NONCE_INVALID"},
		"another version":            {edit("Version: 1", "Version: 2"), "INVALID_ARGUMENT"},
		"expired": {line("Expiration Time: ", time.Now().Add(-time.Second)),
			"WALLET_MESSAGE_EXPIRED"},
		"issued tomorrow": {line("Issued At: ", time.Now().Add(24*time.Hour)), "WALLET_MESSAGE_REFUSED"},
		"not valid before tomorrow": {func(m string) (string, []byte) {
			m += "\nNot Before: " + time.Now().UTC().Add(24*time.Hour).Format(time.RFC3339)
			return m, w.sign(m)
		}, "WALLET_MESSAGE_REFUSED"},
		"no expiration": {func(m string) (string, []byte) {
			m, _, _ = strings.Cut(m, "\nExpiration")
			return m, w.sign(m)
		}, "WALLET_MESSAGE_REFUSED"},
		"a line more":        {edit("\nNonce", "\nNonce: abcdefghij\nNonce"), "INVALID_ARGUMENT"},
		"an empty signature": {signature(func([]byte) []byte { return nil }), "INVALID_ARGUMENT"},
		"63 bytes":           {signature(func(s []byte) []byte { return s[:63] }), "CHAIN_NOT_CONFIGURED"},
		"64 bytes, another's": {func(m string) (string, []byte) { return m, compact(other.sign(m)) },
			"WALLET_SIGNATURE_INVALID"},
		"the wrong checksum": {edit(w.address, wrongCase(w.address)), "INVALID_ARGUMENT"},
		"v of 29":            {signature(func(s []byte) []byte { s[64] = 29; return s }), "WALLET_SIGNATURE_INVALID"},
		"v of 2":             {signature(func(s []byte) []byte { s[64] = 2; return s }), "WALLET_SIGNATURE_INVALID"},
		"the other v":        {signature(func(s []byte) []byte { s[64] ^= 7; return s }), "WALLET_SIGNATURE_INVALID"},
		"zeros": {signature(func([]byte) []byte { return make([]byte, 65) }),
			"WALLET_SIGNATURE_INVALID"},
		"the higher s": {signature(higher), "WALLET_SIGNATURE_INVALID"},
		"one that isn't wrapped as it says": {signature(func(
			s []byte) []byte {
			return append(s, bytes.Repeat([]byte{0x64, 0x92}, 16)...)
		}), "INVALID_ARGUMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			message, sig := tc.forge(s.message(t, w.address))
			_, err := s.finish(t, message, sig)
			if e := errs.As(err); e == nil || e.Reason != tc.reason {
				t.Errorf("answered %v, want %s", err, tc.reason)
			}
		})
	}
	s.signInWith(t, w) // the control
	for _, r := range []*authv1.StartWalletLoginRequest{
		{Address: wrongCase(w.address), ChainId: 1}, {Address: w.address, ChainId: 10}, {Address: w.address},
		{Address: w.address + "0", ChainId: 1},
	} {
		_, err := s.sessions.StartWalletLogin(t.Context(), r)
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
		if r.GetAddress() == wrongCase(w.address) && !strings.Contains(err.Error(), "checksum") {
			t.Error("it doesn't say that the checksum is wrong:", err)
		}
	}
}

// wrongCase is an address with the case of its first letter changed, which its checksum tells.
func wrongCase(address string) string {
	i := 2 + strings.IndexAny(address[2:], "abcdefABCDEF")
	return address[:i] + string(address[i]^0x20) + address[i+1:]
}

// compact is a signature in the form of EIP-2098.
func compact(sig []byte) []byte {
	short := bytes.Clone(sig[:64])
	short[32] |= (sig[64] - 27) << 7
	return short
}

// higher is the other signature that a signature can be turned into.
func higher(sig []byte) []byte {
	n := secp256k1.Params().N
	s := new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:64]))
	s.FillBytes(sig[32:64])
	sig[64] ^= 27 ^ 28
	return sig
}

// A sign-in waits for a Redis that is slow: a cache would ask elsewhere, and here there is no elsewhere.
func TestASlowRedisFailsNoSignIn(t *testing.T) {
	url := redisOf(t)
	proxy := testkit.Proxy(t, url)
	s := withWallets(t, "PURSER_REDIS_URL="+proxy.Rewrite(url))
	proxy.ToClient(faultproxy.Fault{Latency: 300 * time.Millisecond})
	w := newWallet(t)
	message := s.message(t, w.address)
	if _, err := s.finish(t, message, w.sign(message)); err != nil {
		t.Error(err)
	}
}

func TestAMessageSignsInOnce(t *testing.T) {
	s, w := withWallets(t), newWallet(t)
	message := s.message(t, w.address)
	sig := w.sign(message)
	var finished atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := s.sessions.FinishWalletLogin(t.Context(),
				&authv1.FinishWalletLoginRequest{Message: message, Signature: hexed(sig)})
			if err == nil {
				finished.Add(1)
			} else if e := errs.As(err); e == nil || e.Reason != "WALLET_NONCE_INVALID" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if finished.Load() != 1 {
		t.Errorf("%d of 8 signed in", finished.Load())
	}
	message = s.message(t, w.address)
	if _, err := s.finish(t, message, newWallet(t).sign(message)); err == nil {
		t.Fatal("signed in")
	}
	_, err := s.finish(t, message, w.sign(message)) // a wrong signature uses it up
	want(t, err, errs.KindUnauthenticated, "WALLET_NONCE_INVALID")
}

func TestALinkedWalletSignsInAndCanNotBeLinkedToAnotherAccount(t *testing.T) {
	s, w := withWallets(t), newWallet(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada := grpcclient.WithToken(t.Context(), token)
	link := func(w wallet) error {
		message := s.linkMessage(t, ada, w.address)
		_, err := s.identities.LinkWallet(ada,
			&authv1.LinkWalletRequest{Message: message, Signature: hexed(w.sign(message))})
		return err
	}
	if err := link(w); err != nil {
		t.Fatal(err)
	}
	if got := s.me(t, s.signInWith(t, w).GetAccessToken()); got.GetId() != s.me(t, token).GetId() {
		t.Error("another account")
	}
	want(t, link(w), errs.KindAlreadyExists, "IDENTITY_LINKED")
	own := newWallet(t)
	before := s.me(t, s.signInWith(t, own).GetAccessToken())
	want(t, link(own), errs.KindAlreadyExists, "IDENTITY_LINKED")
	if after := s.me(t, s.signInWith(t, own).GetAccessToken()); after.GetId() != before.GetId() {
		t.Error("the accounts were merged")
	}
	message := s.linkMessage(t, ada, newWallet(t).address)
	_, err := s.identities.LinkWallet(ada, &authv1.LinkWalletRequest{Message: message,
		Signature: hexed(w.sign(message))})
	want(t, err, errs.KindUnauthenticated, "WALLET_SIGNATURE_INVALID")
	_, err = s.identities.LinkWallet(t.Context(), &authv1.LinkWalletRequest{Message: message, Signature: "0x00"})
	want(t, err, errs.KindUnauthenticated, "TOKEN_MISSING")
	for range 19 {
		if err := link(newWallet(t)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, link(newWallet(t)), errs.KindFailedPrecondition, "TOO_MANY_IDENTITIES")
}

func TestAContractWalletIsKnownByItsChain(t *testing.T) {
	var unavailable atomic.Bool
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		switch {
		case unavailable.Load():
			w.WriteHeader(http.StatusBadGateway)
		case strings.Contains(body.String(), "eth_chainId"):
			_, _ = w.Write([]byte(`{"result":"0x1"}`))
		default:
			_, _ = w.Write([]byte(`{"result":"0x1626ba7e` + strings.Repeat("0", 56) + `"}`))
		}
	}))
	defer node.Close()
	s, w := withWallets(t, "PURSER_CHAIN_RPC_URLS=1="+node.URL), newWallet(t)
	byKey := s.me(t, s.signInWith(t, w).GetAccessToken())
	message := s.message(t, w.address)
	unavailable.Store(true)
	_, err := s.finish(t, message, []byte("a signature of the contract's own"))
	want(t, err, errs.KindUnavailable, "CHAIN_UNAVAILABLE")
	unavailable.Store(false)
	tokens, err := s.finish(t, message, []byte("a signature of the contract's own"))
	if err != nil {
		t.Fatal(err)
	}
	if byContract := s.me(t, tokens.GetAccessToken()); byContract.GetId() == byKey.GetId() {
		t.Error("a contract signs in to the account of a key")
	}
	list, err := s.identities.ListIdentities(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
		&authv1.ListIdentitiesRequest{})
	if err != nil || list.GetIdentities()[0].GetSubject() != "1:"+strings.ToLower(w.address) {
		t.Error(list, err)
	}
}

func TestWithoutAConfiguredSiteNoWalletSignsIn(t *testing.T) {
	s, w := start(t), newWallet(t)
	_, err := s.sessions.StartWalletLogin(t.Context(), &authv1.StartWalletLoginRequest{Address: w.address, ChainId: 1})
	want(t, err, errs.KindFailedPrecondition, "WALLET_SIGN_IN_DISABLED")
	_, err = s.finish(t, "x", []byte("x"))
	want(t, err, errs.KindFailedPrecondition, "WALLET_SIGN_IN_DISABLED")
	s = start(t, "PURSER_SIWE_DOMAIN=app.example") // without Redis
	_, err = s.sessions.StartWalletLogin(t.Context(), &authv1.StartWalletLoginRequest{Address: w.address, ChainId: 1})
	want(t, err, errs.KindUnavailable, "SIGN_IN_UNAVAILABLE")
}
