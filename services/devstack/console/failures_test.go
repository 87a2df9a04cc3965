package console_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// showsFailuresFirst makes a call that fails and looks for it, with its reason, above all other traces.
func (s *stage) showsFailuresFirst(t *testing.T, b *browser) {
	t.Helper()
	for range 3 {
		if _, err := s.clients.Wallets.GetWallet(s.user,
			&walletv1.GetWalletRequest{WalletId: "01a208a0-ba57-728f-aecc-4e1d1632c7da"}); err == nil {
			t.Fatal("a wallet that there is not was found")
		}
	}
	for range 3 { // which are newer
		if _, err := s.clients.Wallets.ListWallets(s.user, &walletv1.ListWalletsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	b.shows("#failed > .trace .reason", "NOT_FOUND")
	b.shows("#failed > .trace summary", "WalletService/GetWallet")
	if got := eval[string](b, "document.querySelector('#traces > *').id"); got != "failed" {
		t.Errorf("the traces begin with %q", got)
	}
	b.shows(".group > summary", "→ WalletService/GetWallet wallet 3 traces 3 failed")
	b.click("#failed > .trace > summary")
	b.shows("#failed > .trace[open] .spans", "NOT_FOUND: ")
}

// keepsAnOpenTrace opens a trace, and makes more calls of its method than the page lists.
func (s *stage) keepsAnOpenTrace(t *testing.T, b *browser) {
	t.Helper()
	group := `[...document.querySelectorAll(".group")].find((g) =>
		g.textContent.includes("WalletService/ListWallets"))`
	id := eval[string](b, `(() => { const t = `+group+`.querySelector(".trace");
		t.parentElement.open = t.open = true; return t.dataset.trace; })()`)
	for range 8 {
		if _, err := s.clients.Wallets.ListWallets(s.user, &walletv1.ListWalletsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, pageTimeout, func() bool {
		return eval[bool](b, `(() => { const all = [...`+group+`.querySelectorAll(".trace")];
			return all.length === 7 && all[6].dataset.trace === "`+id+`" && all[6].open; })()`)
	})
	b.do(chromedp.Evaluate[chromedp.Void](group + `.open = false`))
}

// filtersTraces looks for a method, and for what failed.
func (s *stage) filtersTraces(t *testing.T, b *browser) {
	t.Helper()
	all := len(b.text(".group"))
	// Nothing begins elsewhere, whatever method was called.
	want := []string{"any service", "auth", "demo", "portfolio", "wallet"}
	if got := b.text("#filter [name=service] option"); !slices.Equal(got, want) {
		t.Errorf("traces began in %q, want %q", got, want)
	}
	b.fill("#filter [name=text]", "getwallet")
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text(".group")) == 1 })
	b.shows(".group > summary .title", "WalletService/GetWallet")
	b.fill("#filter [name=text]", "nothing has this name")
	b.shows("#traces", "No stored trace matches the filter.")
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#filter").reset();
		document.querySelector("#filter").dispatchEvent(new Event("input"))`))
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text(".group")) >= all })
	b.click("#filter .check")
	testkit.Eventually(t, pageTimeout, func() bool {
		for _, summary := range b.text(".group > summary") {
			if !strings.Contains(summary, " failed") {
				return false
			}
		}
		return true
	})
	b.click("#filter .check")
	b.do(chromedp.SetValue(chromedp.CSS("#filter [name=service]"), "demo"), chromedp.Evaluate[chromedp.Void](
		`document.querySelector("#filter").dispatchEvent(new Event("input"))`))
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text(".group")) == 1 })
	b.shows(".group > summary", "value portfolio")
	// The address has the same filter.
	if got := eval[string](b, "location.search"); !strings.Contains(got, "service=demo") {
		t.Errorf("the address has %q", got)
	}
	b.do(chromedp.Reload())
	if got := b.text(".group > summary .title"); len(got) != 1 || got[0] != "value portfolio" {
		t.Errorf("the link shows %q", got)
	}
	b.do(chromedp.Navigate(s.console.URL()))
	b.shows("#value .figure", "Now ")
}
