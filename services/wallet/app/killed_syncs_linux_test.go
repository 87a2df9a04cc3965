package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

const aggregateABI = `[{"type":"function","name":"aggregate3","inputs":[{"name":"calls","type":"tuple[]","components":[
 {"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
 "outputs":[{"name":"returnData","type":"tuple[]","components":[
 {"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]}]`

// movingChain is a chain with Multicall3 that has another block at each question for the newest, and in each block
// other balances: block × 1000003 + holder × 97 + token, by the ends of their addresses.
type movingChain struct {
	abi    abi.ABI
	number atomic.Int64
}

func (c *movingChain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type call struct {
		ID     json.RawMessage   `json:"id"`
		Method string            `json:"method"`
		Params []json.RawMessage `json:"params"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	reply := func(one call) any {
		return map[string]any{"jsonrpc": "2.0", "id": one.ID, "result": c.answer(one.Method, one.Params)}
	}
	var one call
	if json.Unmarshal(body, &one) == nil {
		_ = json.NewEncoder(w).Encode(reply(one))
		return
	}
	var batch []call
	_ = json.Unmarshal(body, &batch)
	var replies []any
	for _, one := range batch {
		replies = append(replies, reply(one))
	}
	_ = json.NewEncoder(w).Encode(replies)
}

func (c *movingChain) answer(method string, params []json.RawMessage) any {
	switch method {
	case "eth_chainId":
		return "0x1"
	case "eth_getBlockByNumber":
		number := c.number.Add(1)
		return map[string]any{"number": hexutil.Uint64(number), "hash": common.BigToHash(big.NewInt(number)),
			"timestamp": hexutil.Uint64(time.Now().Unix())}
	case "eth_call":
		var to struct{ Input hexutil.Bytes }
		var at struct{ BlockHash common.Hash }
		if json.Unmarshal(params[0], &to) != nil || json.Unmarshal(params[1], &at) != nil || len(to.Input) < 4 {
			return "0x"
		}
		if len(to.Input) == 4 { // decimals()
			return common.BigToHash(big.NewInt(18))
		}
		return c.aggregate(to.Input, at.BlockHash.Big().Int64())
	}
	return "0x00"
}

func (c *movingChain) aggregate(input []byte, number int64) any {
	method := c.abi.Methods["aggregate3"]
	args, err := method.Inputs.Unpack(input[4:])
	if err != nil {
		return err.Error()
	}
	var calls []struct {
		Target       common.Address
		AllowFailure bool
		CallData     []byte
	}
	if err := method.Inputs.Copy(&calls, args); err != nil {
		return err.Error()
	}
	type result struct {
		Success    bool
		ReturnData []byte
	}
	results := make([]result, len(calls))
	for i, one := range calls {
		if len(one.CallData) == 4 {
			results[i] = result{true, common.BigToHash(big.NewInt(18)).Bytes()}
			continue
		}
		asked := int64(one.Target[19])
		if one.Target == common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11") {
			asked = 0x60 // the native coin, slip44:60
		}
		holder := new(big.Int).SetBytes(one.CallData[32:36]).Int64()
		amount := big.NewInt(number*1000003 + holder*97 + asked)
		results[i] = result{true, common.BigToHash(amount).Bytes()}
	}
	out, err := method.Outputs.Pack(results)
	if err != nil {
		return err.Error()
	}
	return hexutil.Bytes(out)
}

// program is the wallet service as a process of its own.
type program struct {
	service
	t        *testing.T
	bin      string
	addr     string
	settings []string
	cmd      *exec.Cmd
	logs     bytes.Buffer
}

func buildProgram(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "wallet")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin, "../cmd/wallet").
		CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// newProgram builds the program, with an empty database and without Redis. It is killed when the test ends.
func newProgram(t *testing.T, settings ...string) *program {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	p := &program{t: t, bin: buildProgram(t), addr: addr}
	p.db, p.issuer = testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	p.settings = append([]string{"PURSER_DATABASE_URL=" + p.db.URL, "PURSER_REDIS_URL=" + servicetest.NoRedis,
		"PURSER_ISSUER=" + p.issuer.URL, "PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true",
		"PURSER_GRPC_ADDR=" + addr, "PURSER_SYNC_CRON=" + never, "PURSER_TRANSACTIONS_CRON=" + never}, settings...)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p.jobs, p.wallets = jobsv1.NewJobServiceClient(conn), walletv1.NewWalletServiceClient(conn)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Log(p.logs.String()[max(0, p.logs.Len()-4000):])
		}
	})
	return p
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, "serve")
	p.cmd.Env = slices.Concat(p.settings, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.t.TempDir()})
	p.cmd.Stdout, p.cmd.Stderr = &p.logs, &p.logs
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	testkit.Eventually(p.t, 60*time.Second, func() bool {
		_, err := p.jobs.ListJobRuns(p.admin(), &jobsv1.ListJobRunsRequest{Job: "sync_wallets"})
		return err == nil
	})
}

func (p *program) kill() {
	p.t.Helper()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
	}
}

func (p *program) admin() context.Context {
	p.t.Helper()
	return p.issuer.As(p.t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
}

func (p *program) count(query string, args ...any) (n int) {
	p.t.Helper()
	if err := p.db.SQL().QueryRowContext(p.t.Context(), query, args...).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

// sync begins a sync of all wallets. What a killed process left behind is due at once, as after some minutes.
func (p *program) sync() (since int64) {
	p.t.Helper()
	p.exec(p.t, "UPDATE wallets SET retry_at = now() - interval '1 second' WHERE sync_state = 'SYNCING'")
	since = int64(p.count("SELECT coalesce(max(synced_block), 0) FROM wallets"))
	if _, err := p.jobs.TriggerJob(p.admin(), &jobsv1.TriggerJobRequest{Job: "sync_wallets"}); err != nil {
		p.t.Fatal(err)
	}
	return since
}

// synced is how many wallets were synced after a block. Runs that were triggered before a kill sync them again, so one
// may be under way for some of them at any time.
func (p *program) synced(since int64) int {
	p.t.Helper()
	return p.count("SELECT count(*) FROM wallets WHERE synced_block > $1", since)
}

// TestAfterKillsEveryBalanceIsThatOfItsBlock kills the process in the midst of syncs of all wallets. It prints how
// long a sync of all of them takes and the most memory that the process had.
func TestAfterKillsEveryBalanceIsThatOfItsBlock(t *testing.T) {
	wallets, kills := testkit.Size(400, 10_000), testkit.Size(3, 20)
	const tokensEach = 20
	chain := &movingChain{}
	var err error
	if chain.abi, err = abi.JSON(strings.NewReader(aggregateABI)); err != nil {
		t.Fatal(err)
	}
	node := httptest.NewServer(chain)
	t.Cleanup(node.Close)
	var entries []string
	for i := range tokensEach - 1 { // and the native coin
		entries = append(entries, fmt.Sprintf(
			`{"chainId":1,"address":"0x%040x","symbol":"T%d","name":"T","decimals":18}`, i+1, i))
	}
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(`{"tokens":[`+strings.Join(entries, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, "PURSER_SYNC_EVERY=1ms", "PURSER_TOKEN_LIST="+list, "PURSER_CHAIN_RPC_URLS=1="+node.URL)
	p.exec(t, `INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now()
		FROM generate_series(1, $1) i`, wallets)
	for kill := range kills {
		p.start()
		since := p.sync()
		part := 1 + rand.IntN(max(1, wallets/4))
		testkit.Eventually(t, 2*time.Minute, func() bool { return p.synced(since) >= part })
		p.kill()
		if wrong := p.wrong(); wrong > 0 {
			t.Fatalf("after kill %d %d balances are not those of their block", kill+1, wrong)
		}
	}
	p.start()
	begun := time.Now()
	since := p.sync()
	testkit.Eventually(t, 5*time.Minute, func() bool { return p.synced(since) == wallets })
	took := time.Since(begun)
	if n := p.count("SELECT count(*) FROM balances"); n != wallets*tokensEach || p.wrong() > 0 {
		t.Errorf("%d of %d balances, %d of them wrong", n, wallets*tokensEach, p.wrong())
	}
	_, most := servicetest.Memory(t, p.cmd.Process.Pid)
	testkit.Figure(t, "%d kills; then %d wallets × %d tokens in %s with at most %d MiB of memory (goal 150)", kills,
		wallets, tokensEach, took.Round(10*time.Millisecond), most>>20)
	if most > 150<<20 {
		t.Errorf("the process had %d MiB", most>>20)
	}
}

// wrong is how many balances are not those of the block that is recorded with them, or of their wallet's last sync.
func (p *program) wrong() int {
	p.t.Helper()
	return p.count(`SELECT count(*) FROM balances b JOIN wallets w ON w.id = b.wallet_id
		WHERE b.amount <> b.block_number * 1000003 + ('x' || right(w.account, 8))::bit(32)::bigint * 97 +
		                  ('x' || right(b.token_id, 2))::bit(8)::int
		   OR b.block_hash <> decode(lpad(to_hex(b.block_number), 64, '0'), 'hex')
		   OR b.block_number <> w.synced_block`)
}
