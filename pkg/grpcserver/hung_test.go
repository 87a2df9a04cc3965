package grpcserver_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/testkit"
)

// serveAlone is a process that serves at an address until it is killed.
func serveAlone(ctx context.Context, args []string) error {
	cfg := plaintext()
	cfg.Addr, cfg.RatePerSecond, cfg.Burst = args[0], 1e6, 1e6
	log := slog.New(slog.DiscardHandler)
	s, err := grpcserver.New(cfg, grpcserver.Deps{Rules: rules, Verifier: known(), Log: log})
	if err != nil {
		return err
	}
	s.RegisterService(echo{}.desc(), echo{})
	g := lifecycle.New(lifecycle.Config{Drain: time.Second}, log)
	if _, err := s.Listen(ctx, g); err != nil {
		return err
	}
	fmt.Println("serving")
	return g.Run(ctx)
}

// One of three replicas hangs: its process stands still, while its kernel keeps the
// connections. The control is a client with round robin and keepalive alone.
func TestAHungReplicaCostsTheCallsOfASecond(t *testing.T) {
	names, hung := startNameServer(t), (*testkit.Child)(nil)
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	var ips []string
	for range 3 {
		n := addresses.Add(1)
		ip := fmt.Sprintf("127.0.%d.%d", 1+n/200, 1+n%200)
		hung = testkit.Spawn(t, "replica", net.JoinHostPort(ip, port))
		if line := hung.Line(time.Minute); line != "serving" {
			t.Skipf("%s can't be listened on, as on systems with one loopback address: %s", ip, line)
		}
		ips = append(ips, ip)
	}
	names.set(ips)
	d := &deployment{names: names, port: port}
	ours := pace(t, d.dialPurser(t))
	plain, err := grpc.NewClient(d.target(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	control := pace(t, plain)
	eventually := func(calls int, of *paced) {
		t.Helper()
		until := of.ended() + calls
		testkit.Eventually(t, 2*time.Minute, func() bool { return of.ended() >= until })
	}
	eventually(100, ours)
	if n := len(ours.answeredBy()); n != 3 {
		t.Fatalf("%d of 3 replicas answer", n)
	}
	hung.Pause()
	stopped := time.Now()
	eventually(testkit.Size(8, 40)*50, ours)
	for name, p := range map[string]*paced{"Purser's": ours, "round robin with keepalive": control} {
		failed, last := p.failedSince(stopped)
		t.Logf("figure: a hung replica of three, 50 calls a second, client %s: %d calls failed, the last began "+
			"after %s", name, failed, last.Round(100*time.Millisecond))
	}
	// A second's third of 50 calls, those that are under way, and one more for each time
	// that all have timed out.
	if failed, _ := ours.failedSince(stopped); failed > 45 {
		t.Errorf("%d calls failed", failed)
	}
	if failed, _ := control.failedSince(stopped); failed < 80 {
		t.Errorf("the control: only %d calls failed", failed)
	}
	hung.Resume()
	ours.forgetAnswers()
	testkit.Eventually(t, time.Minute, func() bool { return len(ours.answeredBy()) == 3 })
	resumed := time.Now()
	eventually(100, ours)
	if failed, _ := ours.failedSince(resumed); failed > 0 {
		t.Errorf("%d calls failed after the replica was back", failed)
	}
}

// paced makes 50 calls a second, each with two seconds of time.
type paced struct {
	conn *grpc.ClientConn

	mu     sync.Mutex
	calls  int
	by     map[string]bool
	failed []time.Time // when they began
}

func pace(t *testing.T, conn *grpc.ClientConn) *paced {
	t.Helper()
	p := &paced{conn: conn, by: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		ticks := time.NewTicker(time.Second / 50)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				all.Go(p.call)
			}
		}
	})
	t.Cleanup(func() { cancel(); all.Wait(); _ = conn.Close() })
	return p
}

func (p *paced) call() {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var from peer.Peer
	err := p.conn.Invoke(ctx, open, newNote("x"), dynamicpb.NewMessage(note()), grpc.Peer(&from))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if err != nil {
		p.failed = append(p.failed, begun)
	} else {
		p.by[from.Addr.String()] = true
	}
}

func (p *paced) ended() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func (p *paced) answeredBy() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
	for addr := range p.by {
		found = append(found, addr)
	}
	return found
}

func (p *paced) forgetAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.by)
}

// failedSince returns how many calls failed that began since a time, and how long after
// it the last of them began.
func (p *paced) failedSince(since time.Time) (n int, last time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, began := range p.failed {
		if d := began.Sub(since); d >= 0 {
			n, last = n+1, max(last, d)
		}
	}
	return n, last
}
