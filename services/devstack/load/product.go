package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// user is somebody with a wallet and a history.
type user struct {
	email, password string

	mu      sync.Mutex // held while the refresh token is being used
	refresh string
	access  string
	renewed time.Time

	watching sync.Mutex // held while the stream is being replaced
	stop     context.CancelFunc
}

// Product is a portfolio product: users who sign in, look at their wallets, their value and its history, and keep a
// stream open that tells them of changes. Its methods are safe for concurrent use, except for Close.
type Product struct {
	c     *client.Clients
	users []*user
	// visitors only sign in, so that their sessions are not those of users.
	visitors []*user
	streams  sync.WaitGroup
}

// backfillRange is how much history users have.
const backfillRange = 48 * time.Hour

// NewProduct registers users, each with a wallet of one of these CAIP-10 accounts, synced, and its history.
func NewProduct(ctx context.Context, c *client.Clients, users int, accounts []string) (*Product, error) {
	p := &Product{c: c}
	for i := range users {
		u, err := p.register(ctx)
		if err != nil {
			return nil, err
		}
		if err := p.fill(grpcclient.WithToken(ctx, u.access), accounts[i%len(accounts)]); err != nil {
			return nil, err
		}
		p.users = append(p.users, u)
	}
	for range max(1, users/4) {
		u, err := p.register(ctx)
		if err != nil {
			return nil, err
		}
		p.visitors = append(p.visitors, u)
	}
	return p, nil
}

func (p *Product) register(ctx context.Context) (*user, error) {
	u := &user{email: strings.ToLower(rand.Text()) + "@example.com", password: rand.Text()}
	if _, err := p.c.Accounts.Register(ctx,
		&authv1.RegisterRequest{Email: u.email, Password: u.password}); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	in, err := p.c.Sessions.Login(ctx, &authv1.LoginRequest{Email: u.email, Password: u.password})
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	u.keep(in.GetTokens())
	return u, nil
}

func (u *user) keep(t *authv1.Tokens) {
	u.access, u.refresh, u.renewed = t.GetAccessToken(), t.GetRefreshToken(), time.Now()
}

func (p *Product) fill(ctx context.Context, account string) error {
	made, err := p.c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	if err != nil {
		return fmt.Errorf("create wallet: %w", err)
	}
	if _, err := p.c.Wallets.SyncWallet(ctx,
		&walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()}); err != nil {
		return fmt.Errorf("sync wallet: %w", err)
	}
	end := time.Now().UTC().Truncate(time.Hour)
	const tries = 10
	for start, failed := end.Add(-backfillRange), 0; ; {
		resp, err := p.c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{
			StartTime: timestamppb.New(start), EndTime: timestamppb.New(end)})
		switch {
		case err == nil && resp.GetBackfill().GetNextStartTime() == nil:
			return nil
		case err == nil:
			start = resp.GetBackfill().GetNextStartTime().AsTime()
		case failed == tries || !errs.Is(err, errs.KindUnavailable) && !errs.Is(err, errs.KindExhausted):
			return fmt.Errorf("history: %w", err)
		default: // another user's is being read
			failed++
			if err := deadline.Pause(ctx, time.Second); err != nil {
				return err
			}
		}
	}
}

// Scenarios are what users do, with their shares of all calls in thousandths.
func (p *Product) Scenarios() []Scenario {
	as := func(call func(context.Context) error) func(context.Context, int) error {
		return func(ctx context.Context, n int) error {
			return call(grpcclient.WithToken(ctx, p.users[n%len(p.users)].token()))
		}
	}
	return []Scenario{
		{"sign in", 2, p.signIn},
		{"refresh", 8, func(ctx context.Context, n int) error { return p.renew(ctx, p.users[n%len(p.users)]) }},
		{"list wallets", 240, as(func(ctx context.Context) error {
			return one(p.c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{}))
		})},
		{"value", 500, as(func(ctx context.Context) error {
			return one(p.c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{}))
		})},
		{"timeline", 240, as(func(ctx context.Context) error {
			return one(p.c.Portfolios.GetTimeline(ctx,
				&portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY}))
		})},
		{"watch", 10, p.watch},
	}
}

func one[A any](_ *A, err error) error { return err }

func (u *user) token() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.access
}

func (p *Product) signIn(ctx context.Context, n int) error {
	u := p.visitors[n%len(p.visitors)]
	return one(p.c.Sessions.Login(ctx, &authv1.LoginRequest{Email: u.email, Password: u.password}))
}

// renew replaces the tokens of a user.
func (p *Product) renew(ctx context.Context, u *user) error {
	u.mu.Lock()
	token := u.refresh
	u.mu.Unlock()
	resp, err := p.c.Sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: token})
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keep(resp.GetTokens())
	return nil
}

// watch opens the stream of a user in place of the one that is open, and keeps it open. It ends with the first
// message.
func (p *Product) watch(_ context.Context, n int) error {
	u := p.users[n%len(p.users)]
	u.watching.Lock()
	defer u.watching.Unlock()
	if u.stop != nil {
		u.stop()
	}
	ctx, stop := context.WithCancel(grpcclient.WithToken(context.Background(), u.token()))
	u.stop = stop
	stream, err := p.c.Portfolios.WatchValuation(ctx, &portfoliov1.WatchValuationRequest{})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	p.streams.Go(func() {
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	})
	return nil
}

// renewAfter is when a user's access token is replaced before a run; it is less than half of its lifetime.
const renewAfter = 2 * time.Minute

// Prepare replaces tokens that would expire during a run of some minutes, and opens the stream of each user.
func (p *Product) Prepare(ctx context.Context) error {
	var failed []error
	for n, u := range p.users {
		u.mu.Lock()
		old := time.Since(u.renewed) > renewAfter
		u.mu.Unlock()
		if old {
			failed = append(failed, p.renew(ctx, u))
		}
		failed = append(failed, p.watch(ctx, n))
	}
	return errors.Join(failed...)
}

// Close ends all streams.
func (p *Product) Close() {
	for _, u := range p.users {
		if u.stop != nil {
			u.stop()
		}
	}
	p.streams.Wait()
}
