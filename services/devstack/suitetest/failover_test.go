package suitetest

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// pair is a primary with a synchronous standby, and wallet on both.
type pair struct {
	home    home
	standby *pgserver.Server
	wallets walletv1.WalletServiceClient
	issuer  *servicetest.Issuer
}

func newPair(t *testing.T) pair {
	t.Helper()
	// What was acknowledged has reached the standby; without that a failover may lose it, whatever a service does.
	primary, err := pgserver.Start(t.Context(), pgserver.Options{
		Settings: map[string]string{"synchronous_commit": "on"}})
	if err != nil {
		t.Fatal(err)
	}
	stop := func(s *pgserver.Server) func() {
		return func() {
			if err := s.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop(primary))
	p := pair{home: newHome(t, primary, "wallet"), issuer: servicetest.NewIssuer(t)}
	p.home.migrate(t)
	if p.standby, err = pgserver.StartStandby(t.Context(), primary, pgserver.Options{
		Settings: map[string]string{"synchronous_commit": "on"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop(p.standby))
	if err := primary.Set(t.Context(), "synchronous_standby_names", "*"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		return p.one(t, primary, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 1
	})
	both, err := url.Parse(p.home.url())
	if err != nil {
		t.Fatal(err)
	}
	both.Host = fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", primary.Port(), p.standby.Port())
	s := begin(t, "wallet", map[string]string{"PURSER_DATABASE_URL": both.String(), "PURSER_ISSUER": p.issuer.URL,
		"PURSER_GRPC_RATE_PER_SECOND": "100000", "PURSER_GRPC_BURST": "100000"})
	s.eventually(t, serving)
	addr := testkit.Receive(t, s.grpc, time.Minute)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p.wallets = walletv1.NewWalletServiceClient(conn)
	return p
}

// one returns the number that a statement reads of wallet's database on a server.
func (p pair) one(t *testing.T, s *pgserver.Server, statement string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(p.home.role()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), statement).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// perOwner counts the wallets of each user on a server.
func (p pair) perOwner(t *testing.T, s *pgserver.Server) map[string]int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(p.home.role()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), `SELECT owner_id::text, count(*) FROM wallets GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	var owner string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&owner, &n}, func() error { counts[owner] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return counts
}

// create creates a wallet of a new user within a second, and returns its id.
func (p pair) create(ctx context.Context, token, request string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := p.wallets.CreateWallet(grpcclient.WithToken(ctx, token), &walletv1.CreateWalletRequest{
		Account: "eip155:1:0x0000000000000000000000000000000000000001", RequestId: request})
	return resp.GetWallet().GetId(), err
}

func (p pair) token(t *testing.T) (user uuid.UUID, token string) {
	t.Helper()
	user = uuid.New()
	return user, p.issuer.Token(t, user, servicetest.Permissions("wallet:write", "wallet:read"))
}

// The primary is killed under load, and its standby promoted. Each call has a request id and is repeated until it is
// acknowledged, as a caller does; one that was answered before the failover is repeated after it.
func TestAfterAFailoverEachAcknowledgedCreateIsThereOnce(t *testing.T) {
	p := newPair(t)
	const workers = 8
	creates := int64(testkit.Size(80, 4000)) // before and after the failover
	type ack struct{ user, request, token, wallet string }
	var mu sync.Mutex
	var acked []ack
	var before, after, repeated atomic.Int64
	var killed, firstAfter atomic.Int64 // unix nanoseconds
	refused := map[string]int{}
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for after.Load() < creates && t.Context().Err() == nil {
				user, token := p.token(t)
				a := ack{user: user.String(), request: uuid.NewString(), token: token}
				for {
					begun := time.Now().UnixNano()
					id, err := p.create(t.Context(), token, a.request)
					if err == nil {
						a.wallet = id
						if k := killed.Load(); k != 0 && begun > k {
							firstAfter.CompareAndSwap(0, time.Now().UnixNano())
							after.Add(1)
						} else {
							before.Add(1)
						}
						break
					}
					repeated.Add(1)
					e := errs.As(err)
					if e == nil || e.Kind != errs.KindUnavailable && e.Kind != errs.KindDeadline {
						t.Errorf("a create is answered with %v", err)
						return
					}
					mu.Lock()
					refused[e.Reason]++
					mu.Unlock()
				}
				mu.Lock()
				acked = append(acked, a)
				mu.Unlock()
			}
		})
	}
	testkit.Eventually(t, 2*time.Minute, func() bool { return before.Load() >= creates })
	killed.Store(time.Now().UnixNano())
	p.home.server.Kill()
	if err := p.standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now().UnixNano()
	all.Wait()
	seconds := func(from int64) float64 { return time.Duration(firstAfter.Load() - from).Seconds() }
	stored := p.perOwner(t, p.standby)
	missing, twice := 0, 0
	for _, a := range acked {
		switch stored[a.user] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	for _, a := range acked[:min(len(acked), 40)] { // of before the failover
		if id, err := p.create(t.Context(), a.token, a.request); err != nil || id != a.wallet {
			t.Errorf("a repetition of an acknowledged create: %s, %v, want %s", id, err, a.wallet)
		}
	}
	testkit.Figure(t, "failover: first good write %.2f s after the kill, %.2f s after the promotion; %d creates "+
		"acknowledged, %d missing, %d twice; %d calls repeated %v", seconds(killed.Load()), seconds(promoted),
		len(acked), missing, twice, repeated.Load(), refused)
	if missing+twice > 0 || int64(len(acked)) < 2*creates {
		t.Errorf("of %d acknowledged creates %d are missing, %d are there twice", len(acked), missing, twice)
	}
	if s := seconds(promoted); s > 10 {
		t.Errorf("the first write takes %.1f s", s)
	}
}

// A standby that is away holds up every commit of a primary with synchronous replication. Calls end at their
// deadlines, and what was asked for is there once when the standby is back and the call was repeated.
func TestWhileASynchronousStandbyIsAwayCallsEndInTime(t *testing.T) {
	p := newPair(t)
	user, token := p.token(t)
	if _, err := p.create(t.Context(), token, uuid.NewString()); err != nil {
		t.Fatal(err)
	}
	p.standby.Pause()
	other, otherToken := p.token(t)
	request := uuid.NewString()
	for range 3 { // the first commit is under way, and the others find its row
		begun := time.Now()
		_, err := p.create(t.Context(), otherToken, request)
		e := errs.As(err)
		if e == nil || e.Kind != errs.KindDeadline && e.Kind != errs.KindUnavailable {
			t.Errorf("a create is answered with %v", err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("an answer takes %s", took)
		}
		t.Logf("answered after %s with %v", time.Since(begun).Round(time.Millisecond), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	list, err := p.wallets.ListWallets(grpcclient.WithToken(ctx, token), &walletv1.ListWalletsRequest{})
	if err != nil || len(list.GetWallets()) != 1 {
		t.Errorf("reads go on: %v, %v", list, err)
	}
	p.standby.Resume()
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := p.create(t.Context(), otherToken, request)
		return err == nil
	})
	if stored := p.perOwner(t, p.home.server); stored[user.String()] != 1 || stored[other.String()] != 1 {
		t.Errorf("the users have %v wallets, want one each", stored)
	}
}
