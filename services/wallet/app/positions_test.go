package app_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/app"
)

// The token of bareNode answers as stETH does: 5 million to everything.
func TestPositionsAreReadWithTheBalances(t *testing.T) {
	n := &bareNode{number: 100, decimals: 6}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, fmt.Appendf(nil, `{"tokens":[{"chainId":1,"address":"%s","symbol":"ST","name":"T",
		"decimals":6}]}`, tokenContract), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startOnNodes(t, []string{server.URL}, "PURSER_TOKEN_LIST="+list,
		"PURSER_DEFI_MARKETS=steth@eip155:1:"+tokenContract+",erc4626@eip155:1:"+ghostContract)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	if got := s.mustSync(ctx, t, w.GetId()); got.GetError() != "" {
		t.Fatal(got)
	}
	const staked = "POSITION_KIND_STAKED 5000000 eip155:1/slip44:60 at 100"
	told := func(markets []*walletv1.MarketPositions) string {
		var out []string
		for _, m := range markets {
			text := m.GetProtocol() + " " + m.GetMarket() + fmt.Sprintf(" complete=%t", m.GetComplete())
			for _, p := range m.GetPositions() {
				text += fmt.Sprintf(" %s %s %s at %d", p.GetKind(), p.GetAmount(), p.GetTokenId(), p.GetBlockNumber())
			}
			out = append(out, text)
		}
		return strings.Join(out, "; ")
	}
	want := "erc4626 eip155:1:0x00000000000000000000000000000000000000ff complete=false; " +
		"steth eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed complete=true " + staked
	page, err := s.positions.ListPositions(ctx, &walletv1.ListPositionsRequest{})
	if got := told(page.GetMarkets()); err != nil || got != want {
		t.Errorf("listed are %s, %v", got, err)
	}
	held, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil || told(held.GetWallets()[0].GetPositions()) != want {
		t.Errorf("held are %s, %v", told(held.GetWallets()[0].GetPositions()), err)
	}
	for _, h := range held.GetWallets()[0].GetHoldings() {
		if h.GetReceipt() != strings.Contains(h.GetTokenId(), tokenContract) {
			t.Errorf("%s is told as receipt=%t", h.GetTokenId(), h.GetReceipt())
		}
	}
	n.set(func(n *bareNode) { n.gone, n.number = true, 101 }) // what could be read holds on
	s.mustSync(ctx, t, w.GetId())
	page, err = s.positions.ListPositions(ctx, &walletv1.ListPositionsRequest{WalletId: w.GetId(), Protocol: "steth"})
	if got := told(page.GetMarkets()); err != nil || !strings.HasSuffix(got, "complete=false "+staked) {
		t.Errorf("after its contract is gone: %s, %v", got, err)
	}
	n.set(func(n *bareNode) { n.gone = false })
	s.settings = []string{"PURSER_DEFI_MARKETS=steth@eip155:1:" + tokenContract, "PURSER_SYNC_EVERY=1ns"}
	for i, args := range [][]string{{"sync", "--wallet=" + w.GetId()}, {"sync", "--all"}} {
		n.set(func(n *bareNode) { n.number = 102 + i })
		if out, err := s.command(t, "1="+server.URL, args...); err != nil {
			t.Error(out, err)
		}
		page, err = s.positions.ListPositions(ctx, &walletv1.ListPositionsRequest{Protocol: "steth"})
		if got := told(page.GetMarkets()); err != nil || !strings.Contains(got, "complete=true") ||
			!strings.HasSuffix(got, fmt.Sprint(" at ", 102+i)) {
			t.Errorf("after the command %s: %s, %v", args, got, err)
		}
	}
	for name, tc := range map[string]struct {
		as   func() (*walletv1.ListPositionsResponse, error)
		want errs.Kind
	}{
		"another user's wallet": {as: func() (*walletv1.ListPositionsResponse, error) {
			return s.positions.ListPositions(s.user(t), &walletv1.ListPositionsRequest{WalletId: w.GetId()})
		}, want: errs.KindNotFound},
		"an unknown protocol": {as: func() (*walletv1.ListPositionsResponse, error) {
			return s.positions.ListPositions(ctx, &walletv1.ListPositionsRequest{Protocol: "aave"})
		}, want: errs.KindInvalid},
		"a made-up page": {as: func() (*walletv1.ListPositionsResponse, error) {
			return s.positions.ListPositions(ctx, &walletv1.ListPositionsRequest{PageToken: "x"})
		}, want: errs.KindInvalid},
	} {
		if _, err := tc.as(); !errs.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASettingOfMarketsIsCheckedAtTheStart(t *testing.T) {
	_, err := app.Load([]string{"PURSER_CHAIN_RPC_URLS=1=http://127.0.0.1:1",
		"PURSER_DEFI_MARKETS=erc4626@eip155:10:" + ghostContract})
	if err == nil || !strings.Contains(err.Error(), "PURSER_DEFI_MARKETS: entry \"erc4626@eip155:10:"+ghostContract+
		"\": PURSER_CHAIN_RPC_URLS has no node of chain 10") {
		t.Errorf("a market without a node: %v", err)
	}
	_, err = app.Load([]string{"PURSER_DEFI_MARKETS=aave@eip155:10:" + ghostContract})
	if err == nil || !strings.Contains(err.Error(), "DEFI_MARKETS") || !strings.Contains(err.Error(), "aave-v3") {
		t.Errorf("an unknown protocol: %v", err)
	}
}
