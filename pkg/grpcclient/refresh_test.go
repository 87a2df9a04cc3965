package grpcclient_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
)

// slowDNS answers a question after a time, unless it is given up before.
type slowDNS struct {
	addr  string
	after time.Duration
	asked atomic.Int64
	open  atomic.Int64
}

func (*slowDNS) Scheme() string { return "slow" }

func (d *slowDNS) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver,
	error) {
	d.asked.Add(1)
	d.open.Add(1)
	timer := time.AfterFunc(d.after, func() {
		_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: d.addr}}})
	})
	return slowQuestion{d, timer}, nil
}

type slowQuestion struct {
	dns   *slowDNS
	timer *time.Timer
}

func (slowQuestion) ResolveNow(resolver.ResolveNowOptions) {}

func (q slowQuestion) Close() {
	q.timer.Stop()
	q.dns.open.Add(-1)
}

func dialBy(t *testing.T, d *slowDNS) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("slow:///service", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(grpcclient.Refreshing(d)))
	if err != nil {
		t.Fatal(err)
	}
	conn.Connect()
	return conn
}

// DNS is heard although its answer takes longer than the time after which it is asked again, as where the first
// server of two is away.
func TestASlowAnswerOfDNSIsHeard(t *testing.T) {
	s := grpc.NewServer()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()
	d := &slowDNS{addr: lis.Addr().String(), after: 6 * time.Second}
	conn := dialBy(t, d)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection is %s after 15 s and %d questions", state, d.asked.Load())
		}
	}
}

// A connection that is closed while DNS does not answer leaves no question open.
func TestClosingLeavesNoQuestionOpen(t *testing.T) {
	d := &slowDNS{after: time.Hour}
	conn := dialBy(t, d)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return d.asked.Load() > 0 && d.open.Load() == 0 })
}
