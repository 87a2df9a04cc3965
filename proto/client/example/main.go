// Command example signs in, adds the wallets that it is given, and prints what
// the caller's portfolio is worth: the program of docs/client.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/proto/client"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Getenv("EMAIL"), os.Getenv("PASSWORD"), os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func run(ctx context.Context, email, password string, accounts []string, out io.Writer) (err error) {
	c, err := client.Dial(client.Config{
		Auth: os.Getenv("AUTH"), Wallet: os.Getenv("WALLET"), Portfolio: os.Getenv("PORTFOLIO"),
		Plaintext:   true, // leave it out for TLS
		Credentials: client.Password(email, password),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, account := range accounts { // CAIP-10, eip155:1:0x…
		made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
		if errs.Is(err, errs.KindAlreadyExists) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := c.Wallets.SyncWallet(ctx,
			&walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()}); err != nil {
			return err
		}
	}
	worth, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		return err
	}
	v := worth.GetValuation()
	_, err = fmt.Fprintf(out, "%s %s in %d positions\n", v.GetTotal(), v.GetCurrency(), len(v.GetPositions()))
	return err
}

// explain says what a program can tell of an error.
func explain(err error) string {
	e := errs.As(err)
	if e == nil {
		return err.Error()
	}
	text := fmt.Sprintf("%s (%s): %s", e.Kind, e.Reason, e.Message)
	for _, v := range e.Violations {
		text += fmt.Sprintf("\n  %s %s", v.Field, v.Rule)
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf("\n  try again in %s", e.RetryAfter)
	}
	return text
}
