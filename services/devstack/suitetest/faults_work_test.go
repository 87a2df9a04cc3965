package suitetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// worked is what users do all the while, each until it is acknowledged: import a transaction, make a portfolio and
// delete it, value it, take a snapshot, read the own account.
type worked struct {
	c      *demo.Clients
	users  []*worker
	ending atomic.Bool
	all    sync.WaitGroup

	mu      sync.Mutex
	refused map[string]int                  // by code and reason
	wrong   []string                        // errors that don't tell to try again
	since   map[string]map[string]time.Time // by what was called, of each worker the begin of the last success
	calls   atomic.Int64
}

// worker is one of them.
type worker struct {
	id     string
	ctx    context.Context //nolint:containedctx // with its token
	wallet string
	// rows are how many were acknowledged.
	rows int
}

func startWork(t *testing.T, c *demo.Clients, chain string) *worked {
	t.Helper()
	w := &worked{c: c, refused: map[string]int{}, since: map[string]map[string]time.Time{}}
	for i := range workers {
		ctx, _ := signIn(t, c)
		made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
			Account: fmt.Sprintf("%s:0x%040x", chain, 0xfa017+i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{
			WalletId: made.GetWallet().GetId()}); err != nil {
			t.Fatal(err)
		}
		w.users = append(w.users, &worker{id: strconv.Itoa(i), ctx: ctx, wallet: made.GetWallet().GetId()})
	}
	for _, u := range w.users {
		w.all.Go(func() {
			for !w.ending.Load() {
				w.round(u, chain)
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

// end has each finish its round.
func (w *worked) end() {
	w.ending.Store(true)
	w.all.Wait()
}

// round is one round of a user.
func (w *worked) round(u *worker, chain string) {
	row, id, at := fmt.Sprint("row-", u.rows), uuid.NewString(), time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	w.until(u, "import", func(ctx context.Context) error {
		got, err := w.c.Transactions.ImportTransactions(ctx, &walletv1.ImportTransactionsRequest{WalletId: u.wallet,
			RequestId: id, Transactions: []*walletv1.TransactionRow{{RowId: row, TokenId: chain + "/slip44:60",
				Direction: walletv1.Direction_DIRECTION_IN, Amount: "1", Time: timestamppb.New(at)}}})
		if err == nil && len(got.GetResult().GetFailures()) > 0 {
			err = fmt.Errorf("refused: %v", got.GetResult().GetFailures())
		}
		return err
	})
	u.rows++
	made, removed, portfolio := uuid.NewString(), uuid.NewString(), ""
	w.until(u, "create portfolio", func(ctx context.Context) error {
		got, err := w.c.Portfolios.CreatePortfolio(ctx,
			&portfoliov1.CreatePortfolioRequest{Name: row, RequestId: made, WalletIds: []string{u.wallet}})
		portfolio = got.GetPortfolio().GetId()
		return err
	})
	w.until(u, "snapshot", func(ctx context.Context) error {
		return get(w.c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}))
	})
	w.until(u, "valuation", func(ctx context.Context) error {
		return get(w.c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{}))
	})
	w.until(u, "account", func(ctx context.Context) error {
		return get(w.c.Accounts.GetMe(ctx, &authv1.GetMeRequest{}))
	})
	w.until(u, "delete portfolio", func(ctx context.Context) error {
		return get(w.c.Portfolios.DeletePortfolio(ctx,
			&portfoliov1.DeletePortfolioRequest{PortfolioId: portfolio, RequestId: removed}))
	})
}

// until repeats a call until it succeeds, each time with three seconds.
func (w *worked) until(u *worker, what string, call func(context.Context) error) {
	for {
		begun := time.Now()
		ctx, stop := context.WithTimeout(u.ctx, 3*time.Second)
		err := call(ctx)
		stop()
		w.calls.Add(1)
		w.mu.Lock()
		if err == nil {
			if w.since[what] == nil {
				w.since[what] = map[string]time.Time{}
			}
			w.since[what][u.id] = begun
			w.mu.Unlock()
			return
		}
		code := status.Code(grpcerr.ToStatus(err).Err())
		w.refused[fmt.Sprint(code, " ", reasonOf(err))]++
		if !slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted}, code) {
			w.wrong = append(w.wrong, fmt.Sprint(what, ": ", err))
		}
		w.mu.Unlock()
		if u.ctx.Err() != nil {
			return
		}
		pause := time.NewTimer(rand.N(100 * time.Millisecond))
		<-pause.C
	}
}

// recovered waits until each user has had a success of each call that began after a time, and returns how long that
// took.
func (w *worked) recovered(t *testing.T, after time.Time) time.Duration {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.since) < kindsOfCalls {
			return false
		}
		for _, users := range w.since {
			for _, u := range w.users {
				if !users[u.id].After(after) {
					return false
				}
			}
		}
		return true
	})
	return time.Since(after)
}

// errors returns what was refused, by code and reason, and what should not have been, and forgets them.
func (w *worked) errors() (refused map[string]int, wrong []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	refused, wrong = w.refused, w.wrong
	w.refused, w.wrong = map[string]int{}, nil
	return refused, wrong
}
