package client_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// A program that calls in its own name. The secret is one that `auth
// service-account ensure` wrote.
func ExampleServiceAccount() {
	secret, err := os.ReadFile("/run/secrets/billing")
	if err != nil {
		return
	}
	c, err := client.Dial(client.Config{
		Auth: "auth.purser:7601", Wallet: "wallet.purser:7602", CAFile: "/run/secrets/ca.pem",
		Credentials: client.ServiceAccount("billing", strings.TrimSpace(string(secret))),
	})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Holdings.GetHoldings(context.Background(), &walletv1.GetHoldingsRequest{})
}

// A bot with an API key.
func ExampleAPIKey() {
	c, err := client.Dial(client.Config{
		Auth: "auth.example.com:443", Wallet: "wallet.example.com:443",
		Credentials: client.APIKey(os.Getenv("API_KEY")),
	})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Wallets.ListWallets(context.Background(), &walletv1.ListWalletsRequest{})
}

// A sign-in with a second factor, and what goes on with its session.
func ExampleSession() {
	at := client.Config{Auth: "auth.example.com:443", Wallet: "wallet.example.com:443"}
	anybody, err := client.Dial(at)
	if err != nil {
		return
	}
	defer func() { _ = anybody.Close() }()
	begun, err := anybody.Sessions.Login(context.Background(),
		&authv1.LoginRequest{Email: "you@example.com", Password: "…", SecondFactorCode: "123456"})
	if err != nil {
		return
	}
	at.Credentials = client.Session(begun.GetTokens().GetRefreshToken())
	c, err := client.Dial(at)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Wallets.ListWallets(context.Background(), &walletv1.ListWalletsRequest{})
}

// A gateway that calls for many: each one's own token, from the request.
func ExampleDial() {
	c, err := client.Dial(client.Config{Wallet: "wallet.purser:7602"})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	ctx := grpcclient.WithToken(context.Background(), "the access token of the request")
	_, err = c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: "eip155:1:0x12"})
	switch e := errs.As(err); {
	case err == nil:
	case e == nil:
		fmt.Println("no answer of Purser's:", err)
	case e.Kind == errs.KindInvalid:
		for _, v := range e.Violations {
			fmt.Println(v.Field, v.Rule)
		}
	case e.RetryAfter > 0:
		fmt.Println("try again in", e.RetryAfter.Round(time.Second))
	default:
		fmt.Println(e.Reason)
	}
}
