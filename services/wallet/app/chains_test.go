package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// countingNode is a node of a chain that counts its calls.
func countingNode(t *testing.T, chain int, calls *atomic.Int64) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var in struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		result := fmt.Sprintf(`"0x%x"`, chain)
		if in.Method == "eth_getBlockByNumber" {
			result = fmt.Sprintf(`{"number":"0x10","hash":"0x%064x","timestamp":"0x%x"}`, 16, time.Now().Unix()-12)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, in.ID, result)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// startOn runs the service with these nodes.
func startOn(t *testing.T, nodes ...string) service {
	t.Helper()
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	conn := servicetest.Start(t, app.Load, app.New, io.Discard,
		"PURSER_DATABASE_URL="+s.db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis, "PURSER_ISSUER="+s.issuer.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_BURST=10000",
		"PURSER_SYNC_CRON="+never, "PURSER_CHAIN_RPC_URLS="+strings.Join(nodes, ","))
	s.wallets, s.tokens = walletv1.NewWalletServiceClient(conn), walletv1.NewTokenServiceClient(conn)
	return s
}

func TestChainsAreListedWithTheHealthOfTheirNodesAndNoSecret(t *testing.T) {
	var good, stranger atomic.Int64
	s := startOn(t,
		"1=http://user:hunter2@127.0.0.1:1/v2/s3cretkey?token=s3cretquery",
		"1="+countingNode(t, 1, &good)+"/s3cretpath",
		"137="+countingNode(t, 5, &stranger))
	resp, err := s.tokens.ListChains(s.may(t), &walletv1.ListChainsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	text := protojson.Format(resp)
	for _, secret := range []string{"hunter2", "s3cret", "127.0.0.1", "http"} {
		if strings.Contains(text, secret) {
			t.Errorf("the answer has %q: %s", secret, text)
		}
	}
	if len(resp.GetChains()) != 2 {
		t.Fatal(text)
	}
	one, polygon := resp.GetChains()[0], resp.GetChains()[1]
	if one.GetId() != "eip155:1" || one.GetEip155Id() != 1 || one.GetName() != "Ethereum" ||
		one.GetNativeSymbol() != "ETH" || one.GetHead().GetBlockNumber() != 16 || len(one.GetNodes()) != 2 {
		t.Errorf("chain 1: %s", text)
	}
	if age := one.GetHead().GetAge().AsDuration(); age < 11*time.Second || age > time.Minute {
		t.Errorf("its head is %s old", age)
	}
	dead, alive := one.GetNodes()[0], one.GetNodes()[1]
	if dead.GetNumber() != 1 || dead.GetReachable() || dead.GetLastErrorReason() != "UNREACHABLE" ||
		dead.GetHead() != nil || dead.GetLastErrorTime() == nil {
		t.Errorf("the node that doesn't answer: %v", dead)
	}
	if !alive.GetReachable() || alive.GetLatency().AsDuration() <= 0 || alive.GetLastErrorReason() != "" ||
		alive.GetCheckTime() == nil {
		t.Errorf("the node that answers: %v", alive)
	}
	if polygon.GetHead() != nil || polygon.GetNodes()[0].GetLastErrorReason() != "WRONG_CHAIN" {
		t.Errorf("a node of another chain: %v", polygon)
	}
}

func TestAFloodOfListsIsNoFloodAtTheNodes(t *testing.T) {
	var calls atomic.Int64
	s := startOn(t, "1="+countingNode(t, 1, &calls))
	var wg sync.WaitGroup
	for range 20 {
		ctx := s.may(t)
		wg.Go(func() {
			for range 10 {
				resp, err := s.tokens.ListChains(ctx, &walletv1.ListChainsRequest{})
				if err != nil || !resp.GetChains()[0].GetNodes()[0].GetReachable() {
					t.Error(resp, err)
				}
			}
		})
	}
	wg.Wait()
	// A check is two calls; a slow machine may take longer than its result is used.
	if n := calls.Load(); n < 2 || n > 8 {
		t.Errorf("200 lists cost the node %d calls", n)
	}
}

func TestAWalletOnAChainWithoutANodeIsRefusedUnlessItIsAskedFor(t *testing.T) {
	s := startOn(t, "137=http://127.0.0.1:1", "10=http://127.0.0.1:1")
	ctx := s.user(t)
	_, err := s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "CHAIN_NOT_CONFIGURED")
	if e := errs.As(err); e.Metadata["configured_chains"] != "eip155:10,eip155:137" ||
		!strings.Contains(e.Message, "eip155:10 (OP Mainnet), eip155:137 (Polygon)") ||
		!strings.Contains(e.Message, "allow_unconfigured_chain") {
		t.Errorf("the refusal doesn't say what there is: %v, %v", e.Message, e.Metadata)
	}
	for _, r := range []*walletv1.CreateWalletRequest{
		{Account: account, AllowUnconfiguredChain: true}, {Account: strings.Replace(account, ":1:", ":10:", 1)},
	} {
		if _, err := s.wallets.CreateWallet(ctx, r); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
}
