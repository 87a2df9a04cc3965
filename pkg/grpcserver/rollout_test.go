package grpcserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/testkit"
)

// The replicas of a service are replaced one after the other, each by one at another
// address, as a Deployment on Kubernetes does it, while clients call the service by its
// name. No call fails, whichever client it is.
//
// gRPC's own resolver asks DNS at most every 30 s, so a replica has to be known for longer
// than that before another one ends. At full size it is; otherwise both times are short.
func TestARollingRestartFailsNoCall(t *testing.T) {
	if testkit.Size(0, 1) == 0 {
		dns.SetMinResolutionInterval(time.Second)
	}
	for _, replicas := range []int{1, testkit.Size(2, 3)} {
		t.Run(fmt.Sprintf("%d replicas", replicas), func(t *testing.T) {
			if testkit.Size(0, 1) == 0 { // at full size each takes a machine
				t.Parallel()
			}
			s := newDeployment(t, replicas, lifecycle.Config{Notice: time.Duration(testkit.Size(5, 10)) * time.Second,
				Drain: 5 * time.Second})
			s.ready = testkit.Size(50, 40*50) // fiftieths of a second
			s.rate = testkit.Size(50, 500)
			callers := map[string]*caller{
				"Purser's":             s.caller(t, s.dialPurser(t)),
				"plain, round robin":   s.caller(t, s.dialPlain(t, "round_robin")),
				"plain, pick first":    s.caller(t, s.dialPlain(t, "pick_first")),
				"plain, pick first, 2": s.caller(t, s.dialPlain(t, "pick_first")),
			}
			s.restart(t, callers["Purser's"])
			callers["Purser's"].pass(t, 100)
			for name, c := range callers {
				calls, failed, first := c.stop()
				t.Logf("figure: %d replicas, client %s: %d calls, %d failed", replicas, name, calls, failed)
				if failed > 0 || calls < 100 {
					t.Errorf("%s: %d of %d calls failed, the first with: %v", name, failed, calls, first)
				}
			}
		})
	}
}

// DNS names the new replica half a second after the old one was told to end: those who call it know no other until
// then. The control, a replica that ends at once, fails their calls. The resolver is one that asks DNS each second.
// gRPC's own, which asks every 30 s, needs replicas that overlap for longer, as in TestARollingRestartFailsNoCall.
func TestTheNoticeBridgesTheTimeThatDNSTakes(t *testing.T) {
	dns.SetMinResolutionInterval(time.Second)
	for _, notice := range []time.Duration{5 * time.Second, 0} {
		t.Run(notice.String(), func(t *testing.T) {
			t.Parallel()
			s := newDeployment(t, 1, lifecycle.Config{Notice: notice, Drain: 5 * time.Second})
			c := s.caller(t, s.dialPlain(t, "pick_first"))
			c.pass(t, 50)
			old, added := s.replicas[0], s.start(t)
			old.stop()
			c.pass(t, 25)
			s.replicas = nil
			s.announce(added)
			if err := <-old.ended; err != nil {
				t.Error(err)
			}
			c.pass(t, 50)
			if calls, failed, first := c.stop(); (failed == 0) != (notice > 0) {
				t.Errorf("%d of %d calls failed, the first with: %v", failed, calls, first)
			}
		})
	}
}

// A replica that is added gets its share of the calls of a client that is connected to the others.
func TestANewReplicaGetsItsShare(t *testing.T) {
	t.Parallel()
	s := newDeployment(t, 2, lifecycle.Config{Drain: 5 * time.Second})
	c := s.caller(t, s.dialPurser(t))
	added := s.start(t)
	c.pass(t, 50)
	began, before := time.Now(), c.calls.Load()
	s.announce(added)
	testkit.Eventually(t, time.Minute, func() bool {
		since := c.calls.Load() - before
		return since > 100 && added.calls.Load() > since/10
	})
	t.Logf("figure: a new replica has had a tenth of the calls after %s", time.Since(began).Round(time.Millisecond))
	c.stop()
}

// deployment is the replicas of a service behind a DNS name.
type deployment struct {
	names    *nameServer
	port     string
	cfg      lifecycle.Config
	ready    int // for how long DNS names a replica before another one ends, in fiftieths of a second
	rate     int // calls a second of each caller
	replicas []*replica
}

// replica is a server at an address of its own.
type replica struct {
	ip    string
	calls atomic.Int64
	stop  context.CancelFunc
	ended chan error
}

// addresses counts the loopback addresses that the deployments of this test use.
var addresses atomic.Int32

func newDeployment(t *testing.T, replicas int, cfg lifecycle.Config) *deployment {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{names: startNameServer(t), port: port, cfg: cfg, ready: 50, rate: 50}
	for range replicas {
		d.announce(d.start(t))
	}
	t.Cleanup(func() {
		for _, r := range d.replicas {
			r.stop()
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// start starts a replica that no client knows yet.
func (d *deployment) start(t *testing.T) *replica {
	t.Helper()
	n := addresses.Add(1)
	r := &replica{ip: fmt.Sprintf("127.0.%d.%d", 1+n/200, 1+n%200), ended: make(chan error, 1)}
	cfg := plaintext()
	cfg.Addr, cfg.HealthAddr = net.JoinHostPort(r.ip, d.port), net.JoinHostPort(r.ip, "0")
	cfg.RatePerSecond, cfg.Burst = 1e6, 1e6
	s, err := grpcserver.New(cfg, grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e := echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		r.calls.Add(1)
		return in, nil
	}}
	s.RegisterService(e.desc(), e)
	g := lifecycle.New(d.cfg, slog.New(slog.DiscardHandler))
	if _, err := s.Listen(t.Context(), g); err != nil {
		t.Skipf("%s can't be listened on, as on systems with one loopback address: %v", r.ip, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- g.Run(ctx) }()
	return r
}

// announce adds a replica to those that DNS names.
func (d *deployment) announce(r *replica) {
	d.replicas = append(d.replicas, r)
	d.publish()
}

func (d *deployment) publish() {
	var ips []string
	for _, r := range d.replicas {
		ips = append(ips, r.ip)
	}
	d.names.set(ips)
}

// restart replaces each replica by a new one, as a Deployment with maxSurge 1 and
// maxUnavailable 0 does. pace counts the calls meanwhile: a second of them passes before DNS
// names the new one, d.ready before the old one is told to end, and another second before DNS
// forgets it.
func (d *deployment) restart(t *testing.T, pace *caller) {
	t.Helper()
	for _, old := range slices.Clone(d.replicas) {
		added := d.start(t)
		pace.pass(t, 50)
		d.announce(added)
		pace.pass(t, d.ready)
		old.stop()
		pace.pass(t, 50)
		d.replicas = slices.DeleteFunc(d.replicas, func(r *replica) bool { return r == old })
		d.publish()
		if err := <-old.ended; err != nil {
			t.Error(err)
		}
	}
}

func (d *deployment) target() string { return "dns://" + d.names.addr + "/service.test.:" + d.port }

func (d *deployment) dialPurser(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: d.target(), Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (d *deployment) dialPlain(t *testing.T, policy string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(d.target(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"`+policy+`": {}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// caller calls a service at a steady pace, without any repetition of its own.
type caller struct {
	calls, failed atomic.Int64
	first         atomic.Pointer[error]
	rate          int
	cancel        context.CancelFunc
	ended         sync.WaitGroup
}

// caller starts d.rate calls a second, each in its time whether or not those before it have ended.
func (d *deployment) caller(t *testing.T, conn *grpc.ClientConn) *caller {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &caller{cancel: cancel, rate: d.rate}
	c.ended.Go(func() {
		ticks := time.NewTicker(time.Second / time.Duration(d.rate))
		defer ticks.Stop()
		var all sync.WaitGroup
		for {
			select {
			case <-ctx.Done():
				all.Wait()
				_ = conn.Close()
				return
			case <-ticks.C:
				all.Go(func() { c.call(conn) })
			}
		}
	})
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *caller) call(conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := conn.Invoke(ctx, open, newNote("x"), dynamicpb.NewMessage(note()))
	c.calls.Add(1)
	if err != nil {
		c.failed.Add(1)
		c.first.CompareAndSwap(nil, &err)
	}
}

// pass waits until n fiftieths of a second of calls were made.
func (c *caller) pass(t *testing.T, n int) {
	t.Helper()
	until := c.calls.Load() + int64(n*c.rate/50)
	testkit.Eventually(t, 5*time.Minute, func() bool { return c.calls.Load() >= until })
}

// stop returns the number of calls, of those that failed, and the first failure.
func (c *caller) stop() (calls, failed int64, first error) {
	c.cancel()
	c.ended.Wait()
	if e := c.first.Load(); e != nil {
		first = *e
	}
	return c.calls.Load(), c.failed.Load(), first
}

// nameServer answers DNS questions for A records with the same addresses for all names.
type nameServer struct {
	addr  string
	asked atomic.Int64

	mu    sync.Mutex
	ips   []string
	rcode dnsmessage.RCode
	mute  bool
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addr: conn.LocalAddr().String()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := s.answer(buf[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return s
}

func (s *nameServer) set(ips []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ips = slices.Clone(ips)
}

// errMute is about a question that is not answered.
var errMute = errors.New("not answered")

func (s *nameServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	s.asked.Add(1)
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.RCode = s.rcode; strings.HasPrefix(q.Name.String(), "_") {
		m.RCode = dnsmessage.RCodeNameError
	}
	if s.mute {
		return nil, errMute
	}
	for _, ip := range s.ips {
		if q.Type != dnsmessage.TypeA || m.RCode != dnsmessage.RCodeSuccess {
			break
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type},
			Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(ip).To4())},
		})
	}
	return m.Pack()
}
