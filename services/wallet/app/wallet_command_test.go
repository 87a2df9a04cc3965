package app_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
)

// command runs one of the program's commands on the service's database.
func (s service) command(t *testing.T, nodes string, args ...string) (string, error) {
	t.Helper()
	cfg, err := app.Load(append(slices.Clone(s.settings), "PURSER_DATABASE_URL="+s.db.URL,
		"PURSER_REDIS_URL="+servicetest.NoRedis,
		"PURSER_ISSUER="+s.issuer.URL, "PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true",
		"PURSER_CHAIN_RPC_URLS="+nodes))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = app.Command(t.Context(), cfg, slog.New(slog.DiscardHandler), args, &out)
	return out.String(), err
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const noNodes = "137=http://127.0.0.1:1"

func TestAFileIsImportedByLines(t *testing.T) {
	s := start(t)
	ada, bob := s.user(t), s.user(t)
	a, b := s.create(ada, t, account).GetId(), s.create(bob, t, account).GetId()
	path := file(t, "\ufeffTime,wallet_id, token_id ,amount\r\n"+
		"2024-01-02T00:00:00Z,"+a+","+tokenAAA+",5\r\n"+
		"2024-01-02T00:00:00Z,"+b+","+tokenAAA+",6\r\n"+
		"yesterday,"+a+",AAA,7\r\n"+
		"2024-01-03T00:00:00Z,"+uuid.NewString()+","+tokenAAA+",7\r\n"+
		"2024-01-03T00:00:00Z,mine,"+tokenAAA+",7\r\n"+
		"too,few\r\n"+
		"\"a\nline\" break,"+a+","+tokenAAA+",7\r\n"+
		"2024-01-03T00:00:00Z,"+a+","+tokenAAA+",7\r\n")
	out, err := s.command(t, noNodes, "import", path)
	if err == nil || err.Error() != "5 rows of rows.csv were not stored; mend them and repeat the command" {
		t.Error(err)
	}
	for _, want := range []string{
		"rows.csv:4: token_id must be a CAIP-19 id", "rows.csv:4: time must be a time such as",
		`got "yesterday"`, "rows.csv:5: wallet_id must be the id of a wallet, got",
		`rows.csv:6: wallet_id must be a UUID, got "mine"`, "rows.csv:7: must have 4 fields as the first line, got 2",
		"rows.csv:8: ", "3 rows stored, 0 replaced, 0 were there already, 5 failed\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if out, _ := s.command(t, noNodes, "import", path); !strings.Contains(out,
		"0 rows stored, 0 replaced, 3 were there already, 5 failed") {
		t.Errorf("again:\n%s", out)
	}
	for ctx, want := range map[*walletv1.ListBalancesRequest]string{{WalletId: a}: "7", {WalletId: b}: "6"} {
		as := ada
		if want == "6" {
			as = bob
		}
		list, err := s.balances.ListBalances(as, ctx)
		if err != nil || len(list.GetBalances()) != 1 || list.GetBalances()[0].GetAmount() != want {
			t.Error(list, err)
		}
	}
	out, err = s.command(t, noNodes, "import", file(t,
		"wallet_id,row_id,token_id,direction,amount,time\n"+
			a+",x1,"+tokenAAA+",IN,3,2024-01-04T00:00:00Z\n"+a+",x2,"+tokenAAA+",OUT,1,2024-01-05T00:00:00Z\n"))
	if err != nil || !strings.Contains(out, "2 rows stored") {
		t.Error(out, err)
	}
	if list, err := s.balances.ListBalances(ada, &walletv1.ListBalancesRequest{WalletId: a}); err != nil ||
		list.GetBalances()[0].GetAmount() != "9" {
		t.Error(list, err)
	}
	// More than one import has at most.
	var many strings.Builder
	many.WriteString("wallet_id,token_id,amount,time\n")
	for i := range 2500 {
		when := day(10).AsTime().Add(time.Duration(i) * time.Second)
		fmt.Fprintf(&many, "%s,%s,%d,%s\n", a, tokenAAA, i, when.Format(time.RFC3339))
	}
	if out, err := s.command(t, noNodes, "import", file(t, many.String())); err != nil ||
		!strings.Contains(out, "2500 rows stored") {
		t.Error(out, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	s := start(t)
	for text, want := range map[string]string{
		"":                                 "the file is empty",
		"wallet_id,token_id,amount\n":      `the column "time" is missing`,
		"wallet_id,token_id,amount,date\n": `the column "date" must be one of`,
		"wallet_id,row_id\n":               `the column "token_id" is missing`,
		"time,time\n":                      `the column "time" is there twice`,
	} {
		_, err := s.command(t, noNodes, "import", file(t, text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rows.csv, line 1: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, args := range [][]string{{"import"}, {"import", "/nowhere.csv"}, {"sync"}, {"sync", "--all", "--wallet=x"},
		{"sync", "--wallet=x"}, {"sync", "--wallet=" + uuid.NewString()}, {"partitions", "x"}} {
		if _, err := s.command(t, noNodes, args...); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestThePartitionsAreListed(t *testing.T) {
	s := start(t)
	out, err := s.command(t, noNodes, "partitions")
	month := time.Now().UTC().Format("2006-01")
	for _, want := range []string{"PARTITION", "balance_history_" + strings.ReplaceAll(month, "-", ""), month,
		"default", "wallet_history is made until the end of "} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s\n%v", want, out, err)
		}
	}
}

func TestWalletsOnARealNodeAreSyncedByCommand(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	s, _ := startOnNode(t, string(n))
	ctx := s.user(t)
	n.Send(t, servicetest.NodeHolder, receiver, nil, ether)
	w := s.create(ctx, t, "eip155:1:"+receiver)
	other := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
	out, err := s.command(t, "1="+string(n), "sync", "--wallet="+w.GetId())
	if err != nil || !strings.Contains(out, ": 1 balances at block ") {
		t.Fatal(out, err)
	}
	if out, err := s.command(t, "1="+string(n), "sync", "--all"); err != nil || !strings.HasSuffix(out,
		"wallets: 1 synced, 0 failed\n") {
		t.Error(out, err)
	}
	if out, err := s.command(t, "1="+string(n), "sync", "--all"); err != nil || out != "wallets: nothing to do\n" {
		t.Error(out, err)
	}
	for _, id := range []string{w.GetId(), other.GetId()} {
		got, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: id})
		if err != nil || got.GetWallet().GetSync().GetState() != walletv1.SyncState_SYNC_STATE_SYNCED {
			t.Error(got, err)
		}
	}
	_, err = s.command(t, noNodes, "sync", "--wallet="+w.GetId())
	if e := errs.As(err); e == nil || e.Reason != "CHAIN_NOT_CONFIGURED" {
		t.Error(err)
	}
}
