package app_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

const maxAmount = "115792089237316195423570985008687907853269984665640564039457584007913129639935" // 2^256-1

// constantToken is the init code of a contract that answers decimals() with these, and any other call with an amount.
func constantToken(t *testing.T, amount string, decimals byte) []byte {
	t.Helper()
	word := strings.Repeat("ff", 32)
	if amount != maxAmount {
		word = fmt.Sprintf("%064s", amount) // 0 and 1
	}
	code, err := hex.DecodeString("604380600b6000396000f3" + // returns the rest
		"60003560e01c63313ce56714603857" + // decimals() jumps
		"7f" + word + "60005260206000f3" + "5b60" + hex.EncodeToString([]byte{decimals}) + "60005260206000f3")
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// multicall3 is the runtime code of Multicall3.
func multicall3(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash("../../devstack/chain/artifacts/Multicall3.json"))
	if err != nil {
		t.Fatal(err)
	}
	var artifact struct{ Runtime string }
	if err := json.Unmarshal(text, &artifact); err != nil {
		t.Fatal(err)
	}
	return artifact.Runtime
}

// From contracts on a real node to what callers read, with and without Multicall3 and over two ways, no digit is lost.
func TestAmountsOfRealNodesAreExact(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	type held struct {
		amount   string
		decimals byte
	}
	want := map[string]held{}
	var entries []string
	for _, decimals := range []byte{0, 6, 18, 30, 77, 255} {
		for _, amount := range []string{maxAmount, "0", "1"} {
			address := strings.ToLower(n.Create(t, servicetest.NodeHolder, constantToken(t, amount, decimals)))
			want["eip155:1/erc20:"+address] = held{amount, decimals}
			entries = append(entries, fmt.Sprintf(`{"chainId":1,"address":%q,"symbol":"T%d","name":"T","decimals":%d}`,
				address, len(entries), decimals))
		}
	}
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(`{"tokens":[`+strings.Join(entries, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{"a call for each", "Multicall3"} {
		if with == "Multicall3" {
			n.Call(t, new(any), "anvil_setCode", "0xcA11bde05977b3631167028862bE2a173976CA11", multicall3(t))
			n.Call(t, new(any), "anvil_mine", "0x1")
		}
		for _, url := range []string{string(n), "ws" + strings.TrimPrefix(string(n), "http")} {
			t.Run(with+" over "+url[:4], func(t *testing.T) {
				s := startOnNodes(t, []string{url}, "PURSER_TOKEN_LIST="+list)
				ctx := s.user(t)
				w := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
				synced, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
				if err != nil || synced.GetWallet().GetSync().GetError() != "" {
					t.Fatal(synced, err)
				}
				listed, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
				if err != nil {
					t.Fatal(err)
				}
				all := map[string]string{}
				for _, b := range listed.GetBalances() {
					all[b.GetToken().GetId()] = b.GetAmount()
					if k, ok := want[b.GetToken().GetId()]; ok && b.GetToken().GetDecimals() != uint32(k.decimals) {
						t.Errorf("%d decimals, want %v", b.GetToken().GetDecimals(), k)
					}
				}
				for id, k := range want {
					if all[id] != k.amount {
						t.Errorf("listed are %s, want %v", all[id], k)
					}
				}
				for way, got := range map[string]map[string]string{"GetHoldings": s.held(ctx, t),
					"StreamHoldings": s.streamed(t), "ListHistoricalBalances": s.imported(ctx, t, all)} {
					for id, k := range want {
						amount := k.amount
						if amount == "0" && way != "ListHistoricalBalances" {
							amount = "" // what is not held is left out
						}
						if got[id] != amount {
							t.Errorf("%s answers %q, want %q of %v", way, got[id], amount, k)
						}
					}
				}
			})
		}
	}
}

// held are the amounts of the caller by token, as GetHoldings answers them.
func (s service) held(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	r, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, h := range r.GetWallets()[0].GetHoldings() {
		out[h.GetTokenId()] = h.GetAmount()
	}
	return out
}

// streamed is held, as StreamHoldings sends it to a service.
func (s service) streamed(t *testing.T) map[string]string {
	t.Helper()
	stream, err := s.holdings.StreamHoldings(s.may(t, "wallet:any"),
		&walletv1.StreamHoldingsRequest{Shard: &walletv1.Shard{Count: 1}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range m.GetOwners() {
			for _, h := range o.GetWallets()[0].GetHoldings() {
				out[h.GetTokenId()] = h.GetAmount()
			}
		}
	}
}

// imported imports the amounts as those of an earlier hour of another wallet, and returns what is listed of that hour.
func (s service) imported(ctx context.Context, t *testing.T, amounts map[string]string) map[string]string {
	t.Helper()
	w := s.create(ctx, t, "eip155:1:"+receiver)
	at := timestamppb.New(time.Now().Add(-time.Hour).Truncate(time.Hour))
	r := &walletv1.ImportBalancesRequest{WalletId: w.GetId(), RequestId: uuid.NewString()}
	for id, amount := range amounts {
		r.Balances = append(r.Balances, &walletv1.BalanceRow{TokenId: id, Amount: amount, Time: at})
	}
	done, err := s.balances.ImportBalances(ctx, r)
	if err != nil || len(done.GetResult().GetFailures()) > 0 {
		t.Fatal(done, err)
	}
	list, err := s.balances.ListHistoricalBalances(ctx,
		&walletv1.ListHistoricalBalancesRequest{WalletId: w.GetId(), AtTime: at, PageSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, b := range list.GetBalances() {
		out[b.GetToken().GetId()] = b.GetAmount()
	}
	return out
}
