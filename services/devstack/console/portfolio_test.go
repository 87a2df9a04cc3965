package console_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/internal/terminal"
)

// showsWallets checks that each wallet is shown with a value, and that the shares add up.
func (s *stage) showsWallets(t *testing.T, b *browser) {
	t.Helper()
	list, err := s.clients.Wallets.ListWallets(s.user, &walletv1.ListWalletsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list.GetWallets() {
		row := fmt.Sprintf("[data-wallet='%s']", w.GetId())
		b.shows(row+" th", w.GetAccount()[len(w.GetAccount())-4:])
		if got := b.text(row + " .value"); len(got) != 1 || len(got[0]) < 4 || got[0] == "0.00" {
			t.Errorf("the value of %s is %q", w.GetAccount(), got)
		}
		if got := b.text(row + " [data-label='Balances read']"); !strings.HasSuffix(got[0], " ago") {
			t.Errorf("the balances of %s were read %q", w.GetAccount(), got)
		}
	}
	if got := len(b.text("[data-wallet]")); got != 2 {
		t.Errorf("%d wallets are shown", got)
	}
	// Prices move, so compare until they are of the same moment.
	testkit.Eventually(t, pageTimeout, func() bool {
		return eval[bool](b, `(() => {
			const cents = (e) => Number(e.textContent.replace(/[,.]/g, ""));
			const sum = [...document.querySelectorAll("[data-wallet] .value")].reduce((a, e) => a + cents(e), 0);
			return Math.abs(sum - cents(document.getElementById("total"))) <= 2;
		})()`)
	})
}

// showsWhyAValueIsIncomplete adds a wallet with a token that has no price, and one that was never synced.
func (s *stage) showsWhyAValueIsIncomplete(t *testing.T, b *browser) {
	t.Helper()
	if got := b.text("#value .incomplete"); len(got) > 0 {
		t.Errorf("a complete value is called incomplete: %q", got)
	}
	var added []string
	vault := fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), s.Chain.Cast().Vault.Address.Hex())
	for _, account := range []string{vault, "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"} {
		made, err := s.clients.Wallets.CreateWallet(s.user, &walletv1.CreateWalletRequest{Account: account,
			AllowUnconfiguredChain: true})
		if err != nil {
			t.Fatal(err)
		}
		added = append(added, made.GetWallet().GetId())
	}
	if _, err := s.clients.Wallets.SyncWallet(s.user, &walletv1.SyncWalletRequest{WalletId: added[0]}); err != nil {
		t.Fatal(err)
	}
	b.shows("#value .notice.incomplete li", "MAX is unpriced: NO_PRICE: the price source has no price for this token")
	b.shows("#value .notice.incomplete li", "was never synced")
	b.shows("#value .figure", "incomplete")
	b.shows("#holdings [data-symbol=MAX]", "NO_PRICE")
	b.shows(fmt.Sprintf("[data-wallet='%s']", added[0]), "1 without a price")
	b.shows(fmt.Sprintf("[data-wallet='%s']", added[1]), "never")
	if got := b.text("#value .changes"); len(got) > 0 {
		t.Errorf("a change to an incomplete value is shown: %q", got)
	}
	for _, width := range []int64{390, 1400} { // with a number of 78 digits
		b.resize(width)
		for _, fault := range b.layoutFaults(width < 900) {
			t.Errorf("%d px: %s", width, fault)
		}
	}
	for _, id := range added {
		if _, err := s.clients.Wallets.DeleteWallet(s.user, &walletv1.DeleteWalletRequest{WalletId: id}); err != nil {
			t.Fatal(err)
		}
	}
	// The snapshot of this hour was of other wallets than there are now, and no job runs here.
	if _, err := s.clients.Portfolios.TakeSnapshot(s.user, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text("#value .incomplete")) == 0 })
}

// showsHoldings checks the total and each row. Prices move, so it compares until both agree.
func (s *stage) showsHoldings(t *testing.T, b *browser) {
	t.Helper()
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the valuation is %q, the page shows %q", want, got)
		}
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		resp, err := s.clients.Portfolios.GetValuation(s.user, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want = []string{terminal.Money(resp.GetValuation().GetTotal())} // which leads
		for _, p := range resp.GetValuation().GetPositions() {
			want = append(want, strings.TrimSpace(p.GetSymbol()+" "+demo.Place(p)), toCents(p.GetValue()))
		}
		got = append(b.text("#value .figure strong"), b.text("#holdings tbody th, #holdings td.value")...)
		return slices.Equal(got, want)
	})
	if len(want) < 5 {
		t.Errorf("too few values to compare: %q", want)
	}
	b.shows("#value .figure", "Now ")
}

// toCents is a value of a hundredth or more as the page shows it.
func toCents(value string) string {
	whole, part, _ := strings.Cut(terminal.Money(value), ".")
	return whole + "." + part[:2]
}

// showsLoans checks the health of what is borrowed against that of the service. Prices move, so it compares until both
// agree.
func (s *stage) showsLoans(t *testing.T, b *browser) {
	t.Helper()
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the health is %q, the page shows %q", want, got)
		}
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		resp, err := s.clients.Defi.GetHealth(s.user, &portfoliov1.GetHealthRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want = nil
		for _, a := range resp.GetAccounts() {
			want = append(want, demo.Decimals(a.GetHealthFactor().GetValue(), 2),
				demo.Percent(a.GetAllCollateralFall()))
		}
		got = b.text("#loans td.lead, #loans [data-label='Collateral may fall by']")
		return slices.Equal(got, want)
	})
	if len(want) != 2 {
		t.Errorf("the loans are %q", want)
	}
	b.shows("#loans p", "USD net.")
}

// showsAlerts has a rule fire, and checks that its alert is on the page.
func (s *stage) showsAlerts(t *testing.T, b *browser) {
	t.Helper()
	if _, err := s.clients.Alerts.CreateAlertRule(s.user, &portfoliov1.CreateAlertRuleRequest{Name: "ETH has a price",
		Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_ABOVE, TokenId: "eip155:31337/slip44:60",
		Limit: "0.000001"}); err != nil {
		t.Fatal(err)
	}
	var fired []*portfoliov1.Alert
	testkit.Eventually(t, pageTimeout, func() bool {
		list, err := s.clients.Alerts.ListAlerts(s.user, &portfoliov1.ListAlertsRequest{})
		fired = list.GetAlerts()
		return err == nil && len(fired) == 1
	})
	b.shows("#alerts [data-alert='"+fired[0].GetAlertId()+"']", "ETH has a price")
}

// showsPerformance checks each period's figures against those of the service. Snapshots of now change them, so it
// compares until both agree.
func (s *stage) showsPerformance(t *testing.T, b *browser) {
	t.Helper()
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the performance is %q, the page shows %q", want, got)
		}
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		want = nil
		for _, days := range []int{7, 30, 90} {
			resp, err := s.clients.Portfolios.GetPerformance(s.user, &portfoliov1.GetPerformanceRequest{
				StartTime: timestamppb.New(time.Now().AddDate(0, 0, -days))})
			if err != nil {
				t.Fatal(err)
			}
			twr := 100 * resp.GetPerformance().GetTimeWeighted().GetPeriod().GetValue()
			text, sign := fmt.Sprintf("%.2f %%", math.Abs(twr)), map[bool]string{true: "−", false: "+"}[twr < 0]
			if text == "0.00 %" { // what rounds to nothing has no sign
				sign = ""
			}
			want = append(want, sign+text)
		}
		got = b.text("#performance tbody .lead")
		return len(got) == 4 && slices.Equal(got[:3], want)
	})
	if got := b.text("#performance [data-period='90 days'] [data-label='Max drawdown']"); len(got) != 1 ||
		!strings.Contains(got[0], "%") {
		t.Errorf("the drawdown is %q", got)
	}
	b.shows("#performance thead", "Against ")
}

// showsAnotherCurrency chooses euros on the page, checks what it shows then, and goes back.
func (s *stage) showsAnotherCurrency(t *testing.T, b *browser) {
	t.Helper()
	choose := func(code string) {
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
			const choice = document.querySelector("#currency select");
			choice.value = %q;
			choice.dispatchEvent(new Event("change"));
		})()`, code)))
		b.shows("#value .figure .unit", code)
	}
	choose("EUR")
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the valuation is %q, the page shows %q", want, got)
		}
	})
	testkit.Eventually(t, pageTimeout, func() bool { // prices move
		resp, err := s.clients.Portfolios.GetValuation(s.user, &portfoliov1.GetValuationRequest{Currency: "EUR"})
		if err != nil {
			t.Fatal(err)
		}
		want = []string{terminal.Money(resp.GetValuation().GetTotal())}
		for _, p := range resp.GetValuation().GetPositions() {
			want = append(want, toCents(p.GetValue()))
		}
		got = append(b.text("#total"), b.text("#holdings td.value")...)
		return slices.Equal(got, want)
	})
	b.shows("#value .beside .unit", "EUR")
	testkit.Eventually(t, pageTimeout, func() bool {
		return strings.Contains(eval[string](b, "document.getElementById('chart').ariaLabel"), " EUR")
	})
	// The panel is made anew meanwhile.
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text("#performance tbody .lead")) == 4 })
	s.showsWallets(t, b)
	s.showsOverTime(t, b, "EUR")
	choose("USD")
}
