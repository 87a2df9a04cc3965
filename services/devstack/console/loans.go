package console

import (
	"context"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// loans is the data of the section "loans".
type loans struct {
	Accounts []loanAccount
	// What is owned and owed in protocols, and the difference.
	Assets, Liabilities, Net, Currency string
}

// loanAccount is what a wallet owes in a market. Health, Debt and Fall are figures, or reasons why there are none.
type loanAccount struct {
	Protocol, Market, Account, Health, Debt, Fall string
	Liquidatable                                  bool
}

// Short is the wallet's account with the middle of its address left out.
func (a loanAccount) Short() string { return shortAccount(a.Account) }

func (s *services) loans(ctx context.Context, currency string) (any, error) {
	client := portfoliov1.NewDefiServiceClient(s.portfolio)
	health, err := client.GetHealth(ctx, &portfoliov1.GetHealthRequest{Currency: currency})
	if err != nil {
		return nil, err
	}
	parts, err := client.GetProtocolBreakdown(ctx, &portfoliov1.GetProtocolBreakdownRequest{Currency: currency})
	if err != nil {
		return nil, err
	}
	total := parts.GetTotal()
	out := loans{Assets: total.GetAssets(), Liabilities: total.GetLiabilities(), Net: total.GetNet(),
		Currency: parts.GetState().GetCurrency()}
	for _, a := range health.GetAccounts() {
		if a.GetHealthFactor().GetUnavailableReason() == "NO_DEBT" {
			continue
		}
		out.Accounts = append(out.Accounts, loanAccount{Protocol: a.GetProtocol(), Market: a.GetMarket(),
			Account: a.GetAccount(), Health: figureText(a.GetHealthFactor()), Debt: fiat(a.GetDebtValue()),
			Fall: demo.Percent(a.GetAllCollateralFall()), Liquidatable: a.GetLiquidatable()})
	}
	return out, nil
}

// figureText is a figure with two places, or the reason why there is none.
func figureText(f *portfoliov1.DefiFigure) string {
	if f.GetUnavailableReason() != "" {
		return f.GetUnavailableReason()
	}
	return demo.Decimals(f.GetValue(), 2)
}
