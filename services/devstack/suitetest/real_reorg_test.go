package suitetest

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// A snapshot has coins of a block that the chain replaces after it. It is taken again, and every answer about the hour
// is what the chain says of it now.
func TestARealReorgReachesTheSnapshotsOfItsTime(t *testing.T) {
	t.Parallel()
	hour := time.Now().Truncate(time.Hour)
	a := startAnvil(t, "--timestamp", fmt.Sprint(hour.Add(-2*time.Hour).Unix()))
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
	// pay has the wallet get coins in a block of a time, zero for the next.
	pay := func(coins int64, at time.Time) {
		t.Helper()
		if !at.IsZero() {
			a.ask(nil, "evm_setNextBlockTimestamp", at.Unix())
		}
		var hash common.Hash
		a.ask(&hash, "eth_sendTransaction", map[string]any{"from": crypto.PubkeyToAddress(a.owner().PublicKey),
			"to": address, "value": (*hexutil.Big)(new(big.Int).Mul(big.NewInt(coins), big.NewInt(1e18)))})
		testkit.Eventually(t, time.Minute, func() bool { // it is mined after the answer
			var receipt *struct{}
			a.ask(&receipt, "eth_getTransactionReceipt", hash)
			return receipt != nil
		})
	}
	// look syncs the wallet and looks for its movements, by which a reorg is noticed.
	look := func() {
		t.Helper()
		_, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: created.GetWallet().GetId()})
		if err != nil {
			t.Fatal(err)
		}
		runJob(admin, t, s.Endpoints.Wallet, "find_transactions")
	}
	holds := func(v *portfoliov1.Valuation) (amount string) {
		for _, h := range v.GetPositions() {
			amount += h.GetAmount()
		}
		return amount
	}
	pay(5, hour.Add(-20*time.Minute))
	pay(0, time.Now())
	look()
	var block string
	a.ask(&block, "evm_snapshot")
	pay(7, time.Time{})
	look()
	taken, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bucket := taken.GetSnapshot().GetBucketTime()
	snapshot := func() *portfoliov1.Snapshot {
		t.Helper()
		list, err := c.Portfolios.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 1})
		if err != nil || len(list.GetSnapshots()) != 1 {
			t.Fatal(list, err)
		}
		return list.GetSnapshots()[0]
	}
	replaced := snapshot()

	var ok bool
	a.ask(&ok, "evm_revert", block)
	pay(1, time.Time{})
	pay(0, time.Time{})
	look()
	now, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil || holds(now.GetValuation()) != "6000000000000000000" {
		t.Fatal(now, err)
	}
	// A run of the job takes what the feed has told by then. In its first quarter an hour can't be read yet: until it
	// can, the snapshot says that it is out of date.
	testkit.Eventually(t, time.Minute, func() bool {
		adoptPrices(t, s, admin)
		early := time.Since(bucket.AsTime()) < 15*time.Minute
		return snapshot().GetTotal() != replaced.GetTotal() || early && snapshot().GetOutOfDate()
	})
	got := snapshot()
	if got.GetOutOfDate() {
		if got.GetComplete() {
			t.Errorf("the snapshot is complete and out of date: %v", got)
		}
		return
	}
	asOf, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: bucket})
	if err != nil || holds(asOf.GetValuation()) != "5000000000000000000" {
		t.Fatal(asOf, err)
	}
	if !got.GetComplete() || got.GetOutOfDate() || got.GetTotal() == replaced.GetTotal() ||
		got.GetTotal() != asOf.GetValuation().GetTotal() {
		t.Errorf("the snapshot is %v, was %v, and the value of its hour %v", got, replaced, asOf.GetValuation())
	}
	points, err := c.Portfolios.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{StartTime: bucket,
		EndTime: timestamppb.Now(), TimeZone: "UTC",
		Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	if err != nil || len(points.GetPoints()) != 1 || points.GetPoints()[0].GetClose() != got.GetTotal() {
		t.Errorf("the timeline is %v, %v", points, err)
	}
}
