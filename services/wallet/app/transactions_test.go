package app_test

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// startOnNode runs the service with one node of chain 1 and no token list.
func startOnNode(t *testing.T, url string) (service, walletv1.TransactionServiceClient) {
	t.Helper()
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	conn := servicetest.Start(t, app.Load, app.New, &testkit.LogBuffer{},
		"PURSER_DATABASE_URL="+s.db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis, "PURSER_ISSUER="+s.issuer.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_BURST=10000",
		"PURSER_SYNC_CRON="+never, "PURSER_TRANSACTIONS_CRON="+never, "PURSER_CHAIN_RPC_URLS=1="+url)
	s.wallets, s.tokens = walletv1.NewWalletServiceClient(conn), walletv1.NewTokenServiceClient(conn)
	s.balances, s.jobs = walletv1.NewBalanceServiceClient(conn), jobsv1.NewJobServiceClient(conn)
	s.holdings = walletv1.NewHoldingsServiceClient(conn)
	return s, walletv1.NewTransactionServiceClient(conn)
}

// run triggers a job and waits for the end of all its runs.
func (s service) run(t *testing.T, job string) {
	t.Helper()
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	finished := func() (n, open int) {
		runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: job})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs.GetRuns() {
			if r.GetError() != "" {
				t.Fatalf("%s: %s", job, r.GetError())
			}
			switch {
			case r.GetFinishTime() != nil:
				n++
			default:
				open++
			}
		}
		return n, open
	}
	before, _ := finished()
	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: job}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 60*time.Second, func() bool {
		n, open := finished()
		return n > before && open == 0
	})
}

// ledger is the movements of an owner's wallet, oldest first, as texts, and their sums by token.
func ledger(ctx context.Context, t *testing.T, c walletv1.TransactionServiceClient, walletID string) (lines []string,
	sums map[string]*big.Int) {
	t.Helper()
	sums = map[string]*big.Int{}
	token := ""
	for {
		page, err := c.ListTransactions(ctx, &walletv1.ListTransactionsRequest{WalletId: walletID, PageSize: 3,
			PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.GetTransactions() {
			amount, _ := new(big.Int).SetString(m.GetAmount(), 10)
			id := m.GetToken().GetId()
			if sums[id] == nil {
				sums[id] = new(big.Int)
			}
			switch m.GetDirection() {
			case walletv1.Direction_DIRECTION_IN:
				sums[id].Add(sums[id], amount)
			case walletv1.Direction_DIRECTION_OUT:
				sums[id].Sub(sums[id], amount)
			}
			kind := strings.TrimPrefix(m.GetKind().String(), "TRANSACTION_KIND_")
			direction := strings.TrimPrefix(m.GetDirection().String(), "DIRECTION_")
			if kind == "FEE" {
				amount = new(big.Int)
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %s", kind, direction, amount, m.GetToken().GetSymbol()))
		}
		if token = page.GetNextPageToken(); token == "" {
			slices.Reverse(lines)
			return lines, sums
		}
	}
}

// preset is an ERC-20 that others have written, of which holder has all.
func preset(t *testing.T, n servicetest.Node, holder string) string {
	t.Helper()
	text, number, address := typeOf(t, "string"), typeOf(t, "uint256"), typeOf(t, "address")
	args, err := abi.Arguments{{Type: text}, {Type: text}, {Type: number}, {Type: address}}.
		Pack("Gold \u202ecoin", "GLD", big.NewInt(1_000_000), common.HexToAddress(holder))
	if err != nil {
		t.Fatal(err)
	}
	return n.Deploy(t, holder, "ERC20PresetFixedSupply", args)
}

func typeOf(t *testing.T, name string) abi.Type {
	t.Helper()
	out, err := abi.NewType(name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// transferCall is the data of ERC-20's transfer.
func transferCall(to common.Address, amount uint64) []byte {
	data := crypto.Keccak256([]byte("transfer(address,uint256)"))[:4]
	data = append(data, common.LeftPadBytes(to[:], 32)...)
	return append(data, common.LeftPadBytes(new(big.Int).SetUint64(amount).Bytes(), 32)...)
}

// forwarder is the code of a contract that sends on what it gets to the address that it is called with.
var forwarder = hexutil.MustDecode("0x600f80600b6000396000f3" + "6000600060006000346000355af100")

// receiver has nothing at first.
const receiver = "0x00000000000000000000000000000000000000a1"

const ether = 1_000_000_000_000_000_000

func TestTheMovementsOfAWalletAreFoundOnRealNodes(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			s, transactions := startOnNode(t, string(n))
			ctx := s.user(t)
			a := common.HexToAddress(receiver)
			gold := preset(t, n, servicetest.NodeHolder)
			forward := n.Create(t, servicetest.NodeHolder, forwarder)
			mine := s.create(ctx, t, "eip155:1:"+receiver)
			holder := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
			syncs := func() {
				t.Helper()
				for _, w := range []*walletv1.Wallet{mine, holder} {
					resp, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
					if err != nil || resp.GetWallet().GetSync().GetError() != "" {
						t.Fatal(resp, err)
					}
				}
			}
			look := func(what string, want ...string) {
				t.Helper()
				got, _ := ledger(ctx, t, transactions, mine.GetId())
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
				for _, w := range []*walletv1.Wallet{mine, holder} {
					_, sums := ledger(ctx, t, transactions, w.GetId())
					list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
					if err != nil {
						t.Fatal(err)
					}
					for _, b := range list.GetBalances() {
						sum := sums[b.GetToken().GetId()]
						if sum == nil {
							sum = new(big.Int)
						}
						if sum.String() != b.GetAmount() {
							t.Errorf("%s: %s of %s held, %s moved", what, b.GetAmount(), b.GetToken().GetSymbol(), sum)
						}
					}
				}
			}
			n.Send(t, servicetest.NodeHolder, receiver, nil, 2*ether)
			n.Send(t, servicetest.NodeHolder, gold, transferCall(a, 500), 0)
			n.Send(t, servicetest.NodeHolder, forward, common.LeftPadBytes(a[:], 32), ether)
			syncs()
			look("before the search", fmt.Sprintf("ADJUSTMENT IN %d ETH", uint64(3*ether)))
			s.run(t, "find_transactions")
			coins := []string{fmt.Sprintf("TRANSFER IN %d ETH", uint64(2*ether)), "TRANSFER IN 500 GLD",
				fmt.Sprintf("ADJUSTMENT IN %d ETH", uint64(ether))}
			look("after it", coins...)
			syncs() // reads the balance of the token that was found
			look("after another sync", coins...)
			list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: mine.GetId()})
			if err != nil || len(list.GetBalances()) != 2 {
				t.Fatal(list, err)
			}
			for _, b := range list.GetBalances() {
				if k := b.GetToken(); k.GetSymbol() == "GLD" && (k.GetVerified() || k.GetDecimals() != 18 ||
					k.GetName() != "Gold coin") {
					t.Errorf("the token that was found is %v", k)
				}
			}
			// Each block is a second later than the one before, and hardhat keeps its clock when blocks are replaced.
			depths := map[string][]int{"anvil": {1, 64}, "hardhat": {1}}
			for _, depth := range depths[kind] {
				s.reorg(t, n, kind, depth, syncs, look, coins)
				coins = append(coins, "TRANSFER IN 7 ETH", "TRANSFER IN 8 ETH")
			}
		})
	}
}

// reorg replaces as many blocks that were searched, which the feed of changes tells.
func (s service) reorg(t *testing.T, n servicetest.Node, kind string, depth int, syncs func(),
	look func(string, ...string), before []string) {
	t.Helper()
	mine := func(blocks int) {
		if blocks > 0 {
			n.Call(t, new(any), kind+"_mine", fmt.Sprintf("0x%x", blocks))
		}
	}
	var snapshot string
	n.Call(t, &snapshot, "evm_snapshot")
	n.Send(t, servicetest.NodeHolder, receiver, nil, 5*ether)
	mine(depth - 1)
	syncs()
	s.run(t, "find_transactions")
	look("before the reorg", append(slices.Clone(before), fmt.Sprintf("TRANSFER IN %d ETH", uint64(5*ether)))...)
	changes, _ := s.watch(s.may(t, "wallet:read", "wallet:any"), t, &walletv1.WatchChangesRequest{
		Shard: &walletv1.Shard{Number: 0, Count: 1}})
	kinds(t, changes, 0)
	var ok bool
	n.Call(t, &ok, "evm_revert", snapshot)
	// Anvil sets its clock back with the blocks: those that come have earlier times than those that are gone.
	n.Send(t, servicetest.NodeHolder, receiver, nil, 7)
	n.Send(t, servicetest.NodeHolder, receiver, nil, 8)
	mine(depth - 1)
	syncs()
	s.run(t, "find_transactions")
	look("after the reorg", append(slices.Clone(before), "TRANSFER IN 7 ETH", "TRANSFER IN 8 ETH")...)
	for {
		m, err := changes.Recv()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(m.GetChanges(), func(c *walletv1.Change) bool {
			return c.GetKind() == walletv1.ChangeKind_CHANGE_KIND_BLOCKS_REPLACED
		})
		if i < 0 {
			continue
		}
		c := m.GetChanges()[i]
		if since := time.Since(c.GetStartTime().AsTime()); c.GetChainId() != "eip155:1" || c.GetOwnerId() != "" ||
			since < -time.Hour || since > 2*time.Hour || !c.GetEndTime().AsTime().Equal(c.GetChangeTime().AsTime()) {
			t.Errorf("the feed tells of the reorg %v", c)
		}
		return
	}
}

func TestListTransactionsRefusesWhatItCannotAnswer(t *testing.T) {
	s, transactions := startOnNode(t, "http://127.0.0.1:1")
	ctx, mallory := s.user(t), s.user(t)
	w := s.create(ctx, t, account)
	list := func(ctx context.Context, r *walletv1.ListTransactionsRequest) error {
		_, err := transactions.ListTransactions(ctx, r)
		return err
	}
	servicetest.WantError(t, list(mallory, &walletv1.ListTransactionsRequest{WalletId: w.GetId()}), errs.KindNotFound,
		"NOT_FOUND")
	for field, r := range map[string]*walletv1.ListTransactionsRequest{
		"wallet_id":  {WalletId: "x"},
		"token_id":   {TokenId: "ETH"},
		"page_size":  {PageSize: 501},
		"page_token": {PageToken: "AAAAAAAAAAB7fQ"},
		"kinds[0]":   {Kinds: []walletv1.TransactionKind{0}},
	} {
		servicetest.WantViolation(t, list(ctx, r), field)
	}
	if err := list(ctx, &walletv1.ListTransactionsRequest{}); err != nil {
		t.Error(err)
	}
}
