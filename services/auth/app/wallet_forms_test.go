package app_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestEveryFormOfAKeysSignatureAndAddressIsTaken(t *testing.T) {
	s, w := withWallets(t), newWallet(t)
	first := s.me(t, s.signInWith(t, w).GetAccessToken()).GetId()
	lower := wallet{w.key, strings.ToLower(w.address)}
	for name, by := range map[string]func() (*authv1.Tokens, error){
		"a request in lower case": func() (*authv1.Tokens, error) {
			m := s.message(t, lower.address)
			return s.finish(t, m, w.sign(m))
		},
		"a message in lower case": func() (*authv1.Tokens, error) {
			m := strings.Replace(s.message(t, w.address), w.address, lower.address, 1)
			return s.finish(t, m, w.sign(m))
		},
		"a request in upper case": func() (*authv1.Tokens, error) {
			m := s.message(t, "0x"+strings.ToUpper(w.address[2:]))
			return s.finish(t, m, w.sign(m))
		},
		"64 bytes": func() (*authv1.Tokens, error) {
			m := s.message(t, w.address)
			return s.finish(t, m, compact(w.sign(m)))
		},
		"v of 0 or 1": func() (*authv1.Tokens, error) {
			m := s.message(t, w.address)
			sig := w.sign(m)
			sig[64] -= 27
			return s.finish(t, m, sig)
		},
	} {
		tokens, err := by()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if id := s.me(t, tokens.GetAccessToken()).GetId(); id != first {
			t.Errorf("%s: another account", name)
		}
	}
	ada := grpcclient.WithToken(t.Context(), s.registered(t))
	other := newWallet(t)
	message := s.linkMessage(t, ada, strings.ToLower(other.address))
	if linked, err := s.identities.LinkWallet(ada, &authv1.LinkWalletRequest{Message: message,
		Signature: hexed(compact(other.sign(message)))}); err != nil ||
		linked.GetIdentity().GetLabel() != other.address {
		t.Error(linked, err)
	}
}

// registered is the access token of a new user with a password.
func (s service) registered(t *testing.T) string {
	t.Helper()
	s.register(t, "ada@example.com")
	return s.login(t, "ada@example.com").GetAccessToken()
}
