package benchmarks

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// BenchmarkBackfillOf90Days compares a backfill of two wallets, 2,160 hours that are read from the chain, priced,
// valued and stored, with only asking the node for each hour: its block, and one call of Multicall3 at it, eight
// requests at a time. A backfill that reads each hour by itself cannot be faster than that. The prices are known
// from the first.
func BenchmarkBackfillOf90Days(b *testing.B) {
	const hours = 90 * 24
	dir := testkit.Folder(b)
	s, err := suite.Start(b.Context(), suite.Options{Dir: dir, Extra: map[string][]string{
		"wallet": {"PURSER_SYNC_CRON=0 0 1 1 *", "PURSER_TRANSACTIONS_CRON=0 0 1 1 *"}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Stop() })
	c, err := demo.Dial(s.Endpoints)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	node, err := ethclient.DialContext(b.Context(), s.Chain.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(node.Close)

	users := make(chan context.Context, 4)
	for range cap(users) {
		users <- newHolder(b, s, c)
	}
	until := s.Chain.Head().Time.Truncate(time.Hour)
	ours := func() {
		var ctx context.Context
		select {
		case ctx = <-users:
		default:
			ctx = newHolder(b, s, c)
		}
		stored := int32(0)
		for next := timestamppb.New(until.Add(-hours * time.Hour)); next != nil; {
			resp, err := c.Portfolios.TakeSnapshot(ctx,
				&portfoliov1.TakeSnapshotRequest{StartTime: next, EndTime: timestamppb.New(until)})
			if err != nil {
				b.Fatal(err)
			}
			stored, next = stored+resp.GetBackfill().GetStoredCount(), resp.GetBackfill().GetNextStartTime()
		}
		if stored != hours {
			b.Fatalf("%d of %d hours were stored", stored, hours)
		}
	}
	multicall, holder := common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11"), s.Chain.Holders()[0]
	getEthBalance := append(hexutil.MustDecode("0x4d2301cc"), common.LeftPadBytes(holder.Bytes(), 32)...)
	raw := func() {
		head := s.Chain.Head().Number
		var next atomic.Uint64
		all, ctx := errgroup.WithContext(b.Context())
		for range 8 {
			all.Go(func() error {
				for i := next.Add(1); i <= hours; i = next.Add(1) {
					header, err := node.HeaderByNumber(ctx, new(big.Int).SetUint64(head-i))
					if err != nil {
						return err
					}
					if _, err := node.CallContract(ctx, ethereum.CallMsg{To: &multicall, Data: getEthBalance},
						header.Number); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	versus.Run(b, versus.Comparison{Goal: 1, Slow: true, Raw: raw, Ours: ours})
}

// newHolder makes a user with the wallets of the chain's demo accounts.
func newHolder(b *testing.B, s *suite.Suite, c *demo.Clients) context.Context {
	b.Helper()
	email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
	if _, err := c.Accounts.Register(b.Context(),
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		b.Fatal(err)
	}
	in, err := c.Sessions.Login(b.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		b.Fatal(err)
	}
	ctx := grpcclient.WithToken(b.Context(), in.GetTokens().GetAccessToken())
	for _, holder := range s.Chain.Holders() {
		if _, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
			Account: fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), holder.Hex())}); err != nil {
			b.Fatal(err)
		}
	}
	return ctx
}
