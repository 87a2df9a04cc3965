package benchmarks

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// BenchmarkEndToEnd compares frequent calls of the running services with an authenticated call of a server that
// answers at once and with nothing. The goal is 60 % of its rate.
func BenchmarkEndToEnd(b *testing.B) {
	s, err := suite.Start(b.Context(), suite.Options{Dir: testkit.Folder(b), Extra: map[string][]string{
		"auth": unlimited(), "wallet": unlimited(), "portfolio": unlimited()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Stop() })
	c, err := demo.Dial(s.Endpoints)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	ctx := newHolder(b, s, c)
	wallets, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, w := range wallets.GetWallets() {
		if _, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()}); err != nil {
			b.Fatal(err)
		}
	}
	empty, token := purser(b, &answering{response: &portfoliov1.GetValuationResponse{}})
	authorized := grpcclient.WithToken(context.Background(), token)
	request := &portfoliov1.GetValuationRequest{PortfolioId: uuid.NewString()}
	for name, call := range map[string]func() error{
		"GetMe": func() error {
			_, err := c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})
			return err
		},
		"GetValuation, cached": func() error {
			_, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
			return err
		},
		"ListWallets": func() error {
			_, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			versus.Run(b, versus.Comparison{Goal: 1 / 0.6,
				Raw: func() {
					if _, err := empty.GetValuation(authorized, request); err != nil {
						b.Fatal(err)
					}
				},
				Ours: func() {
					if err := call(); err != nil {
						b.Fatal(err)
					}
				},
			})
		})
	}
}

// unlimited are the settings of a service that one user calls without a pause.
func unlimited() []string {
	return []string{"PURSER_GRPC_RATE_PER_SECOND=1000000", "PURSER_GRPC_BURST=1000000"}
}
