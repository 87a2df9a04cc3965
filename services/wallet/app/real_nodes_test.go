package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// publishedList is the token list that Uniswap publishes.
func publishedList(t *testing.T) string {
	t.Helper()
	return servicetest.PackageFile(t, "@uniswap/default-token-list/build/uniswap-default.tokenlist.json")
}

// listedOn is how many entries of a chain the published list has.
func listedOn(t *testing.T, chain int) (n int) {
	t.Helper()
	text, err := os.ReadFile(publishedList(t))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Tokens []struct {
			ChainID int `json:"chainId"`
		} `json:"tokens"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	for _, k := range list.Tokens {
		if k.ChainID == chain {
			n++
		}
	}
	return n
}

// limitedBatches passes calls on to a node, and refuses batches of more calls than most, and requests of more bytes.
func limitedBatches(t *testing.T, node string, most, maxBytes int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var batch []json.RawMessage
		switch {
		case len(body) > maxBytes:
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		case json.Unmarshal(body, &batch) == nil && len(batch) > most:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"more than %d"}}`, most)
			return
		}
		resp, err := http.Post(node, "application/json", bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// mustSync syncs a wallet, and returns its state.
func (s service) mustSync(ctx context.Context, t *testing.T, id string) *walletv1.Sync {
	t.Helper()
	resp, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetWallet().GetSync()
}

// native is the amount of the native coin that is listed.
func (s service) native(ctx context.Context, t *testing.T, id string) string {
	t.Helper()
	list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list.GetBalances() {
		if strings.Contains(b.GetToken().GetId(), "slip44") {
			return b.GetAmount()
		}
	}
	return ""
}

// The first sync with a list of hundreds of tokens, none of whose contracts is on the node's new chain: by a call for
// each through a proxy that allows ten in a batch, and with Multicall3 through one that allows small requests.
func TestTheFirstSyncWithAPublishedListOfRealNodes(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	for _, with := range []string{"a call for each", "Multicall3"} {
		t.Run(with, func(t *testing.T) {
			url := limitedBatches(t, string(n), 10, 1<<20)
			if with == "Multicall3" {
				n.Call(t, new(any), "anvil_setCode", "0xcA11bde05977b3631167028862bE2a173976CA11", multicall3(t))
				n.Call(t, new(any), "anvil_mine", "0x1")
				url = limitedBatches(t, string(n), 10, 12_000)
			}
			s := startOnNodes(t, []string{url}, "PURSER_TOKEN_LIST="+publishedList(t))
			ctx := s.user(t)
			wallets, begun := testkit.Size(2, 40), time.Now()
			for i := range wallets {
				address := servicetest.NodeHolder
				if i > 0 {
					address = common.Address{1, byte(i)}.Hex()
				}
				w := s.create(ctx, t, "eip155:1:"+strings.ToLower(address))
				if got := s.mustSync(ctx, t, w.GetId()); got.GetError() != "" {
					t.Fatalf("wallet %d: %v", i, got)
				}
				want := "0"
				if i == 0 {
					want = "10000000000000000000000"
				}
				if got := s.native(ctx, t, w.GetId()); got != want {
					t.Errorf("wallet %d has %s, want %s", i, got, want)
				}
			}
			testkit.Figure(t, "first sync of %d wallets with %d listed tokens by %s: %s", wallets, listedOn(t, 1),
				with, time.Since(begun).Round(time.Millisecond))
		})
	}
}

func TestRealNodesThatAreResetAreFollowed(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			s := startOnNodes(t, []string{string(n)})
			ctx := s.user(t)
			w := s.create(ctx, t, "eip155:1:"+receiver)
			for range 4 {
				n.Send(t, servicetest.NodeHolder, receiver, nil, 2)
			}
			before := s.mustSync(ctx, t, w.GetId())
			if got := s.native(ctx, t, w.GetId()); got != "8" || before.GetError() != "" {
				t.Fatal(got, before)
			}
			n.Call(t, new(any), map[string]string{"anvil": "anvil_reset", "hardhat": "hardhat_reset"}[kind])
			// Both set their clocks back to the time of the first block. A chain whose blocks are of earlier times
			// than the last sync's can't be told from a node that is behind.
			n.Call(t, new(any), "evm_setNextBlockTimestamp", before.GetSyncTime().GetSeconds()+1)
			n.Send(t, servicetest.NodeHolder, receiver, nil, 3)
			after := s.mustSync(ctx, t, w.GetId())
			if got := s.native(ctx, t, w.GetId()); got != "3" ||
				!strings.Contains(after.GetError(), "the chain was reset") {
				t.Errorf("after the reset it has %s: %v", got, after)
			}
			n.Send(t, servicetest.NodeHolder, receiver, nil, 4)
			if again := s.mustSync(ctx, t, w.GetId()); again.GetError() != "" || s.native(ctx, t, w.GetId()) != "7" {
				t.Errorf("the next sync: %v", again)
			}
		})
	}
}

// A node that keeps the state of its last blocks alone: hours before them fail, each with the reason, and no other.
func TestHoursThatRealNodesHavePrunedFailWithTheReason(t *testing.T) {
	hours := testkit.Size(12, 60)
	genesis := time.Now().Add(-time.Duration(hours) * time.Hour).Truncate(time.Hour).Add(-time.Minute)
	n, _ := servicetest.StartNodeProcess(t, "anvil", "--timestamp", fmt.Sprint(genesis.Unix()), "--prune-history", "5")
	n.Call(t, new(any), "anvil_mine", hexutil.EncodeUint64(uint64(hours)), "0xe10") // an hour each
	s := startOnNodes(t, []string{string(n)})
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
	s.mustSync(ctx, t, w.GetId())
	until := time.Now().Truncate(time.Hour).Add(-time.Hour)
	read, failed, token := 0, 0, ""
	var last []*walletv1.WalletHoldings
	for {
		page, err := s.holdings.ListHistoricalHoldings(ctx, &walletv1.ListHistoricalHoldingsRequest{
			StartTime: timestamppb.New(until.Add(-time.Duration(hours-3) * time.Hour)),
			EndTime:   timestamppb.New(until), PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, hour := range page.GetHours() {
			if len(hour.GetWallets()) > 0 { // otherwise the wallet is as in the hour before
				last = hour.GetWallets()
			}
			for _, held := range last {
				switch sync := held.GetSync(); {
				case sync.GetState() == walletv1.SyncState_SYNC_STATE_FAILED:
					failed++
					if !strings.Contains(sync.GetError(), "it takes an archive node") {
						t.Errorf("%s failed with %q", hour.GetHourTime().AsTime(), sync.GetError())
					}
				default:
					if read++; held.GetHoldings()[0].GetAmount() != "10000000000000000000000" {
						t.Errorf("at %s it held %v", hour.GetHourTime().AsTime(), held)
					}
				}
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if read == 0 || failed == 0 || read+failed != hours-3 {
		t.Errorf("%d hours were read, %d failed, of %d", read, failed, hours-3)
	}
}

// A process that stands still, as on a machine that thrashes, and one that is killed.
func TestRealNodesThatStandStillOrEndArePassedOver(t *testing.T) {
	first, process := servicetest.StartNodeProcess(t, "anvil")
	second := servicetest.StartNode(t, "anvil")
	s := startOnNodes(t, []string{string(first), string(second)})
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
	for _, what := range []struct {
		name string
		do   func() error
	}{
		{"sound", func() error { return nil }},
		{"stopped", func() error { return process.Signal(syscall.SIGSTOP) }},
		{"killed", process.Kill},
	} {
		if err := what.do(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got := s.mustSync(ctx, t, w.GetId()); got.GetError() != "" {
			t.Errorf("%s: %v", what.name, got)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: it took %s", what.name, took)
		}
	}
}
