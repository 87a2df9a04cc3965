package suitetest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

const (
	// maxRate is the number of calls per second while replicas are restarted; maxLoad of what the machine can serve
	// when that is less, since a machine that is busy with nothing else loses calls by itself.
	maxRate, maxLoad = 500, 0.6
	// users share the calls, so that none reaches its rate limit.
	users = 8
)

// caller makes one call.
type caller func(ctx context.Context, opts ...grpc.CallOption) error

// mix is the calls to a service: reads and idempotent writes.
type mix struct {
	services []string
	calls    func(grpc.ClientConnInterface) []caller
}

func mixes() map[string]mix {
	return map[string]mix{
		"portfolio": {[]string{portfoliov1.PortfolioService_ServiceDesc.ServiceName},
			func(conn grpc.ClientConnInterface) []caller {
				p := portfoliov1.NewPortfolioServiceClient(conn)
				return []caller{
					of(p.GetPortfolio, &portfoliov1.GetPortfolioRequest{}),
					of(p.GetValuation, &portfoliov1.GetValuationRequest{}),
					of(p.TakeSnapshot, &portfoliov1.TakeSnapshotRequest{}),
					of(p.GetTimeline, &portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_DAILY}),
				}
			}},
		"wallet": {[]string{walletv1.WalletService_ServiceDesc.ServiceName,
			walletv1.HoldingsService_ServiceDesc.ServiceName}, func(conn grpc.ClientConnInterface) []caller {
			return []caller{
				of(walletv1.NewWalletServiceClient(conn).ListWallets, &walletv1.ListWalletsRequest{}),
				of(walletv1.NewHoldingsServiceClient(conn).GetHoldings, &walletv1.GetHoldingsRequest{}),
			}
		}},
		"auth": {[]string{authv1.AccountService_ServiceDesc.ServiceName,
			authv1.SessionService_ServiceDesc.ServiceName}, func(conn grpc.ClientConnInterface) []caller {
			a := authv1.NewAccountServiceClient(conn)
			return []caller{
				of(a.GetMe, &authv1.GetMeRequest{}),
				of(authv1.NewSessionServiceClient(conn).ListSessions, &authv1.ListSessionsRequest{}),
				of(a.UpdateProfile, &authv1.UpdateProfileRequest{Profile: &authv1.Profile{Bio: "rolling"},
					UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bio"}}}),
			}
		}},
	}
}

func of[Q, A any](method func(context.Context, *Q, ...grpc.CallOption) (*A, error), req *Q) caller {
	return func(ctx context.Context, opts ...grpc.CallOption) error {
		_, err := method(ctx, req, opts...)
		return err
	}
}

// replicas are two programs of one service, each with its own address.
type replicas struct {
	of      [2]replica
	addrs   [2]string
	running [2]*process
}

// replica is a program and its settings.
type replica struct {
	program string
	environ []string
}

func startReplicas(t *testing.T, service string, environ []string) *replicas {
	t.Helper()
	r := newReplicas(t)
	for i := range r.of {
		r.of[i] = replica{filepath.Join(builtPrograms(t), service), environ}
		r.start(t, i)
	}
	return r
}

// newReplicas returns two that have addresses and do not run yet.
func newReplicas(t *testing.T) *replicas {
	t.Helper()
	base := freePorts(t)
	return &replicas{addrs: [2]string{fmt.Sprintf("127.0.0.1:%d", base+1), fmt.Sprintf("127.0.0.1:%d", base+2)}}
}

func (r *replicas) start(t *testing.T, i int) {
	t.Helper()
	r.running[i] = launch(t, r.of[i].program, slices.Concat(r.of[i].environ,
		[]string{"PURSER_GRPC_ADDR=" + r.addrs[i], "PURSER_HTTP_ADDR=127.0.0.1:0"}))
}

// dial connects to both replicas, like a name that resolves to both.
func (r *replicas) dial(t *testing.T, idempotent []string) *grpc.ClientConn {
	t.Helper()
	both := manual.NewBuilderWithScheme("replicas")
	both.InitialState(resolver.State{Endpoints: []resolver.Endpoint{
		{Addresses: []resolver.Address{{Addr: r.addrs[0]}}}, {Addresses: []resolver.Address{{Addr: r.addrs[1]}}},
	}})
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: "replicas:///service", Plaintext: true}, idempotent,
		grpc.WithResolvers(both))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// load makes calls to replicas over one connection and counts the results.
type load struct {
	to    *replicas
	as    []context.Context
	calls []caller

	made, failed atomic.Int64
	slowest      atomic.Int64 // nanoseconds
	first        atomic.Pointer[error]
	served       [2]atomic.Int64 // by replica
}

func (l *load) call(n int) {
	var p peer.Peer
	begun := time.Now()
	err := l.calls[n/len(l.as)%len(l.calls)](l.as[n%len(l.as)], grpc.Peer(&p))
	took := int64(time.Since(begun))
	for was := l.slowest.Load(); took > was && !l.slowest.CompareAndSwap(was, took); was = l.slowest.Load() {
	}
	l.made.Add(1)
	if err != nil {
		l.failed.Add(1)
		l.first.CompareAndSwap(nil, &err)
		return
	}
	for i, addr := range l.to.addrs {
		if p.Addr.String() == addr {
			l.served[i].Add(1)
		}
	}
}

// steadily makes rate calls per second until stop is called, which waits for the last answer.
func (l *load) steadily(rate int) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var under sync.WaitGroup
		defer under.Wait()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for begun, sent := time.Now(), 0; ; {
			due := int(time.Since(begun).Seconds() * float64(rate))
			for n := sent; n < due; n++ {
				under.Go(func() { l.call(n) })
			}
			sent = due
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

// capacity is how many calls per second are served to callers that wait for each answer.
func (l *load) capacity(t *testing.T) float64 {
	t.Helper()
	const callers, each = 16, 100
	begun := time.Now()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				l.call(i + n*callers)
			}
		})
	}
	all.Wait()
	if first := l.first.Load(); first != nil {
		t.Errorf("before a restart %d of %d calls failed, the first with: %v", l.failed.Load(), l.made.Load(), *first)
	}
	return float64(l.made.Load()) / time.Since(begun).Seconds()
}

// reaches waits until a replica answers calls.
func (l *load) reaches(t *testing.T, i int) {
	t.Helper()
	enough := l.served[i].Load() + 10
	testkit.Eventually(t, time.Minute, func() bool { return l.served[i].Load() >= enough })
}

func TestNoCallIsLostWhileReplicasAreRestarted(t *testing.T) {
	b := startInfrastructure(t, suite.Options{})
	e := startPrograms(t, b)
	environ := map[string][]string{"portfolio": b.PortfolioEnviron(e), "wallet": b.WalletEnviron(e),
		"auth": b.AuthEnviron()}
	c := dial(t, e)
	as := make([]context.Context, users)
	for i := range as {
		as[i], _ = signIn(t, c)
		addWallet(t, as[i], c, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[i%2]))
	}
	rounds := testkit.Size(2, 10)
	for _, service := range []string{"portfolio", "wallet", "auth"}[:testkit.Size(1, 3)] {
		t.Run(service, func(t *testing.T) {
			r := startReplicas(t, service, environ[service])
			begun, loads, stop := startLoads(t, r, service, as)
			for n := range rounds {
				restart(t, r, n%2, loads)
			}
			stop()
			report(t, service, rounds, time.Since(begun), loads)

			cut := kill(t, &load{to: r, as: as, calls: mixes()[service].calls(r.dial(t, nil))})
			testkit.Figure(t, "%s: control, one SIGKILL without retries: %d of %d calls failed", service,
				cut.failed.Load(), cut.made.Load())
		})
	}
}

// startLoads makes the calls of a service's mix steadily until stop is called, at a rate that its replicas can serve.
func startLoads(t *testing.T, r *replicas, service string, as []context.Context) (begun time.Time, loads []*load,
	stop func()) {
	t.Helper()
	m := mixes()[service]
	var idempotent []string
	for _, s := range m.services {
		idempotent = append(idempotent, access.Idempotent(s)...)
	}
	// Half of the calls are not retried, as calls that write are not: a graceful shutdown must not need retries.
	loads = []*load{
		{to: r, as: as, calls: m.calls(r.dial(t, idempotent))},
		{to: r, as: as, calls: m.calls(r.dial(t, nil))},
	}
	capacity := (&load{to: r, as: as, calls: m.calls(r.dial(t, nil))}).capacity(t)
	rate := min(maxRate, int(maxLoad*capacity))
	testkit.Figure(t, "%s: %d calls/s are made; two replicas served %.0f", service, rate, capacity)
	begun = time.Now()
	var stops []func()
	for _, l := range loads {
		stop := l.steadily(rate / len(loads))
		t.Cleanup(stop)
		stops = append(stops, stop)
	}
	return begun, loads, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// restart stops one replica gracefully and starts it again, while the other one serves.
func restart(t *testing.T, r *replicas, i int, loads []*load) {
	t.Helper()
	for _, l := range loads { // both replicas must serve before one stops
		l.reaches(t, 0)
		l.reaches(t, 1)
	}
	if err := r.running[i].end(t, syscall.SIGTERM); err != nil {
		t.Fatalf("%s on SIGTERM: %v", r.of[i].program, err)
	}
	r.start(t, i)
}

func report(t *testing.T, service string, rounds int, took time.Duration, loads []*load) {
	t.Helper()
	made, failed, slowest := count(t, loads)
	testkit.Figure(t, "%s: %d calls, %.0f/s, while one of two replicas was stopped by SIGTERM %d times; failed: %d; "+
		"slowest: %s",
		service, made, float64(made)/took.Seconds(), rounds, failed, slowest.Round(time.Millisecond))
}

// count returns how many calls were made and failed, and fails when one did.
func count(t *testing.T, loads []*load) (made, failed int64, slowest time.Duration) {
	t.Helper()
	for _, l := range loads {
		made, failed = made+l.made.Load(), failed+l.failed.Load()
		slowest = max(slowest, time.Duration(l.slowest.Load()))
		if first := l.first.Load(); first != nil {
			t.Errorf("%d of %d calls failed, the first with: %v", l.failed.Load(), l.made.Load(), *first)
		}
	}
	return made, failed, slowest
}

// kill is the control: a replica that is killed while busy loses calls.
func kill(t *testing.T, l *load) *load {
	t.Helper()
	const callers = 32
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := i; ctx.Err() == nil && l.failed.Load() == 0; n += callers {
				l.call(n)
			}
		})
	}
	defer func() { cancel(); all.Wait() }()
	l.reaches(t, 0)
	var exit *exec.ExitError
	if err := l.to.running[0].end(t, syscall.SIGKILL); !errors.As(err, &exit) {
		t.Errorf("a program that was killed ended with %v", err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return l.failed.Load() > 0 })
	if first := *l.first.Load(); !errs.Is(first, errs.KindUnavailable) {
		t.Errorf("a call that was cut off failed with %v", first)
	}
	return l
}
