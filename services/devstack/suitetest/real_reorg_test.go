package suitetest

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// payment is of whole coins.
type payment struct {
	at    time.Time
	coins int64
}

// paidWallet is a wallet of a user on an anvil, and what the chain has paid it.
type paidWallet struct {
	suite      *suite.Suite
	anvil      anvil
	c          *demo.Clients
	ctx, admin context.Context //nolint:containedctx // those of its owner and of an administrator
	id         string
	address    common.Address
	paid       []payment
}

// pay has the wallet get coins in a block of a time, zero for the next.
func (w *paidWallet) pay(t *testing.T, coins int64, at time.Time) {
	t.Helper()
	if !at.IsZero() {
		w.anvil.ask(nil, "evm_setNextBlockTimestamp", at.Unix())
	}
	var hash common.Hash
	w.anvil.ask(&hash, "eth_sendTransaction", map[string]any{"from": crypto.PubkeyToAddress(w.anvil.owner().PublicKey),
		"to": w.address, "value": (*hexutil.Big)(new(big.Int).Mul(big.NewInt(coins), big.NewInt(1e18)))})
	testkit.Eventually(t, time.Minute, func() bool { // it is mined after the answer
		var receipt *struct{}
		w.anvil.ask(&receipt, "eth_getTransactionReceipt", hash)
		return receipt != nil
	})
	if at.IsZero() {
		at = time.Now()
	}
	w.paid = append(w.paid, payment{at, coins})
}

// look syncs the wallet and looks for its movements, by which a reorg is noticed.
func (w *paidWallet) look(t *testing.T) {
	t.Helper()
	if _, err := w.c.Wallets.SyncWallet(w.ctx, &walletv1.SyncWalletRequest{WalletId: w.id}); err != nil {
		t.Fatal(err)
	}
	runJob(w.admin, t, w.suite.Endpoints.Wallet, "find_transactions")
}

// has returns how many coins were paid by a time.
func (w *paidWallet) has(at time.Time) (coins int64) {
	for _, p := range w.paid {
		if !p.at.After(at) {
			coins += p.coins
		}
	}
	return coins
}

// coinsOf returns the amount of a valuation's positions, of which the wallet's coins are the only one.
func coinsOf(v *portfoliov1.Valuation) (amount string) {
	for _, h := range v.GetPositions() {
		amount += h.GetAmount()
	}
	return amount
}

func wantCoins(t *testing.T, when string, v *portfoliov1.Valuation, coins int64) {
	t.Helper()
	want := ""
	if coins > 0 {
		want = fmt.Sprintf("%d000000000000000000", coins)
	}
	if got := coinsOf(v); got != want {
		t.Errorf("%s the portfolio has %q, want %q", when, got, want)
	}
}

// checkPast checks that every hour has the coins that were paid by then, and one value in every answer.
func (w *paidWallet) checkPast(t *testing.T, from, until time.Time) {
	t.Helper()
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		asOf, err := w.c.Portfolios.GetValuation(w.ctx,
			&portfoliov1.GetValuationRequest{AsOfTime: timestamppb.New(at)})
		if err != nil {
			t.Fatal(err)
		}
		wantCoins(t, at.String(), asOf.GetValuation(), w.has(at))
	}
	invariant(w.ctx, t, w.c, "", from, until, func(time.Time) *big.Rat { return nil })
}

// newest is the newest snapshot.
func (w *paidWallet) newest(t *testing.T) *portfoliov1.Snapshot {
	t.Helper()
	list, err := w.c.Portfolios.ListSnapshots(w.ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 1})
	if err != nil || len(list.GetSnapshots()) != 1 {
		t.Fatal(list, err)
	}
	return list.GetSnapshots()[0]
}

// A wallet has a random past, and random blocks of it are replaced by others after a snapshot of their hour was taken.
// It is taken again, and every hour has one value in every answer, that of what the chain says of it now.
func TestARealReorgReachesTheSnapshotsOfItsTime(t *testing.T) {
	t.Parallel()
	const past = 5
	hour := time.Now().Truncate(time.Hour)
	a := startAnvil(t, "--timestamp", fmt.Sprint(hour.Add(-(past+1)*time.Hour).Unix()))
	unlimited := []string{"PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000"}
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{ // the test has the jobs run
			"wallet": append(unlimited, fmt.Sprintf("PURSER_CHAIN_RPC_URLS=%d=%s", anvilChain, a.url),
				"PURSER_TRANSACTIONS_CRON=0 0 29 2 *"),
			"portfolio": append(unlimited, "PURSER_RECOMPUTE_CRON=0 0 29 2 *"),
		}
	})
	c := dial(t, s.Endpoints)
	admin := signInAdmin(t, s, c)
	adoptPrices(t, s, admin) // the feed of changes is followed from now on
	ctx, _ := signIn(t, c)
	address := common.HexToAddress("0x00000000000000000000000000000000000000c5")
	created, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
		Account: fmt.Sprintf("eip155:%d:%s", anvilChain, address.Hex())})
	if err != nil {
		t.Fatal(err)
	}
	w := &paidWallet{suite: s, anvil: a, c: c, ctx: ctx, admin: admin, id: created.GetWallet().GetId(),
		address: address}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	from := hour.Add(-past * time.Hour)
	for at := from; ; {
		if at = at.Add(time.Duration(1+r.IntN(7200)) * time.Second); at.After(hour.Add(-20 * time.Minute)) {
			break
		}
		w.pay(t, 1+r.Int64N(9), at)
	}
	w.pay(t, 3, hour.Add(-20*time.Minute))
	w.pay(t, 0, time.Now())
	w.look(t)
	if _, err := c.Portfolios.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(hour), All: true}); err != nil {
		t.Fatal(err)
	}
	w.checkPast(t, from, hour)
	for round := range testkit.Size(2, 10) {
		w.reorg(t, r, round == 0)
		w.checkPast(t, from, hour)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// reorg replaces random blocks of which a snapshot was taken, and checks what is told of its hour.
func (w *paidWallet) reorg(t *testing.T, r *rand.Rand, first bool) {
	t.Helper()
	var block string
	w.anvil.ask(&block, "evm_snapshot")
	kept := len(w.paid)
	blocks := 1 + r.IntN(3)
	for range blocks {
		w.pay(t, 100+r.Int64N(900), time.Time{})
	}
	w.look(t)
	resp, err := w.c.Portfolios.TakeSnapshot(w.ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bucket := resp.GetSnapshot().GetBucketTime()
	ofSnapshot := func() *portfoliov1.Valuation { // of the newest snapshot
		t.Helper()
		v, err := w.c.Portfolios.GetValuation(w.ctx, &portfoliov1.GetValuationRequest{AsOfTime: timestamppb.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return v.GetValuation()
	}
	if first { // a snapshot that was taken again as of its hour stays
		wantCoins(t, "in the snapshot", ofSnapshot(), w.has(time.Now()))
	}

	var ok bool
	w.anvil.ask(&ok, "evm_revert", block)
	w.paid = w.paid[:kept]
	for range blocks + r.IntN(3) { // a chain that is shorter than before looks reset
		w.pay(t, 1+r.Int64N(9), time.Time{})
	}
	w.pay(t, 0, time.Time{})
	w.look(t)
	now, err := w.c.Portfolios.GetValuation(w.ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantCoins(t, "now", now.GetValuation(), w.has(time.Now()))
	// A run of the job takes what the feed has told by then. In its first quarter an hour can't be read yet: until it
	// can, the snapshot says that it is out of date.
	taken := fmt.Sprintf("%d000000000000000000", w.has(bucket.AsTime()))
	testkit.Eventually(t, time.Minute, func() bool {
		adoptPrices(t, w.suite, w.admin)
		early := time.Since(bucket.AsTime()) < 15*time.Minute
		return !w.newest(t).GetOutOfDate() && coinsOf(ofSnapshot()) == taken || early && w.newest(t).GetOutOfDate()
	})
	got := w.newest(t)
	if got.GetOutOfDate() {
		if got.GetComplete() {
			t.Errorf("the snapshot is complete and out of date: %v", got)
		}
		return
	}
	if !got.GetComplete() || got.GetTotal() != ofSnapshot().GetTotal() {
		t.Errorf("the snapshot is %v, and the value of its hour %v", got, ofSnapshot())
	}
	points, err := w.c.Portfolios.GetTimeline(w.ctx, &portfoliov1.GetTimelineRequest{StartTime: bucket,
		EndTime: timestamppb.Now(), TimeZone: "UTC", Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	if err != nil || len(points.GetPoints()) != 1 || points.GetPoints()[0].GetClose() != got.GetTotal() {
		t.Errorf("the timeline is %v, %v", points, err)
	}
}
