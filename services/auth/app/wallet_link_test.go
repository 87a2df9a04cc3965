package app_test

import (
	"context"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// linkMessage is a message that links a wallet to the caller of ctx.
func (s service) linkMessage(t *testing.T, as context.Context, address string) string {
	t.Helper()
	started, err := s.identities.StartWalletLink(as, &authv1.StartWalletLinkRequest{Address: address, ChainId: 1})
	if err != nil {
		t.Fatal(err)
	}
	return started.GetMessage()
}

// Whoever is tricked into signing a message has only done what the message says.
func TestASignedMessageIsForOnePurposeAndOneAccount(t *testing.T) {
	s := withWallets(t)
	s.register(t, "ada@example.com")
	s.register(t, "mallory@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	mallory := grpcclient.WithToken(t.Context(), s.login(t, "mallory@example.com").GetAccessToken())
	link := func(as context.Context, w wallet, message string) error {
		_, err := s.identities.LinkWallet(as,
			&authv1.LinkWalletRequest{Message: message, Signature: hexed(w.sign(message))})
		return err
	}
	for name, use := range map[string]func(w wallet) error{
		"a sign-in links the wallet to mallory": func(w wallet) error {
			return link(mallory, w, s.message(t, w.address))
		},
		"ada's wallet is linked to mallory": func(w wallet) error {
			return link(mallory, w, s.linkMessage(t, ada, w.address))
		},
		"mallory's message names ada": func(w wallet) error {
			message := s.linkMessage(t, mallory, w.address)
			a, b := s.callerID(t, ada), s.callerID(t, mallory)
			return link(ada, w, strings.ReplaceAll(message, b, a))
		},
		"a link signs in": func(w wallet) error {
			message := s.linkMessage(t, ada, w.address)
			_, err := s.finish(t, message, w.sign(message))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := errs.As(use(newWallet(t)))
			if e == nil || e.Kind != errs.KindUnauthenticated ||
				e.Reason != "WALLET_MESSAGE_REFUSED" && e.Reason != "WALLET_NONCE_INVALID" {
				t.Errorf("answered %v", e)
			}
		})
	}
	w := newWallet(t)
	if err := link(ada, w, s.linkMessage(t, ada, w.address)); err != nil {
		t.Error(err)
	}
}

func (s service) callerID(t *testing.T, as context.Context) string {
	t.Helper()
	me, err := s.accounts.GetMe(as, &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return me.GetUser().GetId()
}
