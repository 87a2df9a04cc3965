package app_test

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"unicode"

	"github.com/ethereum/go-ethereum/common"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// transferEvent is the first topic of ERC-20's Transfer.
const transferEvent = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

// sentBy is the init code of a contract that says that it sends 7 to a holder, and whose code is runtime.
func sentBy(t *testing.T, holder, runtime string) []byte {
	t.Helper()
	constructor := "6007600052" + // the amount
		"73" + strings.TrimPrefix(strings.ToLower(holder), "0x") + "6000" + "7f" + transferEvent + "60206000a3"
	const returns = "61%04x8061%04x6000396000f3" // that many bytes of the code, from there
	size := len(runtime) / 2
	start := (len(constructor) + len(fmt.Sprintf(returns, 0, 0))) / 2
	code, err := hex.DecodeString(constructor + fmt.Sprintf(returns, size, start) + runtime)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// answers is the runtime code of a contract that answers each selector by a piece of code, and reverts on others.
func answers(pieces map[string]string) string {
	const dispatch = 11                         // bytes for each selector
	jumps, code := "60003560e01c", "60006000fd" // the selector; revert
	at := (len(jumps)+len(code))/2 + dispatch*len(pieces)
	for selector, piece := range pieces {
		jumps += fmt.Sprintf("8063%s1461%04x57", selector, at)
		code += "5b" + piece
		at += len(piece)/2 + 1
	}
	return jumps + code
}

const returnsSeven = "600760005260206000f3"

// What a contract says of itself is anybody's text: 64 KiB of control characters for a name, a bytes32 for a symbol
// that rewrites a terminal's line, no decimals. It is shown safely, by everything that a wallet is read with, and the
// tokens beside it are right.
func TestWhatAHostileTokenOnRealNodesSaysIsSafeToShow(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			s, transactions := startOnNode(t, string(n))
			ctx := s.user(t)
			symbol := hex.EncodeToString(common.RightPadBytes([]byte("\x1b[2K\rUSDC\u202e\xff"), 32))
			hostile := n.Create(t, servicetest.NodeHolder, sentBy(t, receiver, answers(map[string]string{
				"70a08231": returnsSeven,
				"06fdde03": "6020600052" + "62010000602052" + "620100406000f3", // 64 KiB of NUL
				"95d89b41": "7f" + symbol + "60005260206000f3"})))
			gold := preset(t, n, servicetest.NodeHolder)
			n.Send(t, servicetest.NodeHolder, gold, transferCall(common.HexToAddress(receiver), 500), 0)
			w := s.create(ctx, t, "eip155:1:"+receiver)
			s.mustSync(ctx, t, w.GetId())
			s.run(t, "find_transactions")
			s.mustSync(ctx, t, w.GetId())

			id := "eip155:1/erc20:" + strings.ToLower(hostile)
			got, err := s.tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: id})
			if err != nil {
				t.Fatal(err)
			}
			k := got.GetToken()
			for _, text := range []string{k.GetSymbol(), k.GetName()} {
				if len(text) > 256 || strings.ContainsFunc(text, func(r rune) bool {
					return !unicode.IsPrint(r) || r == unicode.ReplacementChar
				}) {
					t.Errorf("%d bytes of it are shown as %q", len(text), text)
				}
			}
			if k.GetVerified() || k.GetDecimals() != 0 {
				t.Errorf("the token is %v", k)
			}
			list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			held := map[string]string{}
			for _, b := range list.GetBalances() {
				held[b.GetToken().GetId()] = b.GetAmount()
			}
			if held[id] != "7" || held["eip155:1/erc20:"+strings.ToLower(gold)] != "500" {
				t.Errorf("held are %v", held)
			}
			lines, sums := ledger(ctx, t, transactions, w.GetId())
			if len(lines) != 2 || sums[id].Cmp(big.NewInt(7)) != 0 {
				t.Errorf("moved were %q", lines)
			}
			holdings, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
			if err != nil || len(holdings.GetWallets()) != 1 || len(holdings.GetWallets()[0].GetHoldings()) != 2 {
				t.Errorf("holdings are %v: %v", holdings, err)
			}
		})
	}
}
