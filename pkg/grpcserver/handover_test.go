package grpcserver_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

func newEcho(t *testing.T) *grpcserver.Server {
	t.Helper()
	cfg := plaintext()
	cfg.RatePerSecond, cfg.Burst = 1e6, 1e6
	s, err := grpcserver.New(cfg, grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.RegisterService(echo{}.desc(), echo{})
	return s
}

func localListener(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func ends(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s has not ended in 20 s", what)
	}
}

// Whatever is done with a server, in any order and at once, it ends, and Serve returns nothing.
func TestAServerEndsInAnyOrderOfItsMethods(t *testing.T) {
	for range testkit.Size(100, 1000) {
		s, lis := newEcho(t), localListener(t)
		served := make(chan error, 1)
		serve := func() { served <- s.Serve(lis) }
		others := []func(){s.NotReady, s.NotReady, s.Stop, s.GracefulStop,
			func() { s.Shutdown(context.Background()) },
			func() {
				if conn, err := net.Dial("tcp", lis.Addr().String()); err == nil {
					_ = conn.Close()
				}
			}}
		rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		var all sync.WaitGroup
		all.Go(serve)
		for _, f := range others {
			if rand.N(2) == 0 {
				all.Go(f)
			} else {
				f()
			}
		}
		ends(t, "the server", all.Wait)
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAServerThatWasStoppedDoesNotServe(t *testing.T) {
	s, lis := newEcho(t), localListener(t)
	s.Stop()
	if err := s.Serve(lis); err != nil {
		t.Fatal(err)
	}
	s.NotReady()
	if conn, err := net.Dial("tcp", lis.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("it is still listened")
	}
}

// brokenListener fails with the first connection.
type brokenListener struct{ net.Listener }

var errAccept = errors.New("the listener is broken")

func (l brokenListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		_ = conn.Close()
		err = errAccept
	}
	return nil, err
}

func TestAServerWhoseListenerFailsSaysSoAndEnds(t *testing.T) {
	for _, notice := range []bool{false, true} {
		s, lis := newEcho(t), localListener(t)
		served := make(chan error, 1)
		go func() { served <- s.Serve(brokenListener{lis}) }()
		if notice {
			s.NotReady()
		}
		conn, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		ends(t, "Serve", func() {
			if err := <-served; !errors.Is(err, errAccept) {
				t.Errorf("Serve returned %v", err)
			}
		})
		s.NotReady()
		ends(t, "Shutdown", func() { s.Shutdown(t.Context()) })
	}
}

// A listener that is closed may say so with an error of its own.
func TestAServerOnAListenerInMemoryEnds(t *testing.T) {
	s, lis := newEcho(t), bufconn.Listen(1<<10)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note())); err != nil {
		t.Fatal(err)
	}
	ends(t, "Shutdown", func() { s.Shutdown(t.Context()) })
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// connections counts those of a client that have ended.
type connections struct{ ended atomic.Int64 }

func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		c.ended.Add(1)
	}
}
func (*connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }

// A peer that opens a connection and says nothing keeps no caller from being asked to connect again.
func TestASilentPeerDelaysNoHandover(t *testing.T) {
	for name, stop := range map[string]func(*grpcserver.Server){
		"notice":   func(s *grpcserver.Server) { s.NotReady() },
		"shutdown": func(s *grpcserver.Server) { go s.GracefulStop() },
	} {
		t.Run(name, func(t *testing.T) {
			s, lis := newEcho(t), localListener(t)
			served := make(chan error, 1)
			go func() { served <- s.Serve(lis) }()
			defer func() { s.Stop(); <-served }()
			silent, err := net.Dial("tcp", lis.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			var seen connections
			conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithStatsHandler(&seen),
				grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note())); err != nil {
				t.Fatal(err)
			}
			stop(s)
			testkit.Eventually(t, 5*time.Second, func() bool { return seen.ended.Load() > 0 })
		})
	}
}

// Connections that are opened around the very moment of the handover are served, by one server or the other.
func TestAConnectionAtTheMomentOfTheHandoverIsServed(t *testing.T) {
	var calls, failed atomic.Int64
	for range testkit.Size(20, 500) {
		s, lis := newEcho(t), localListener(t)
		served := make(chan error, 1)
		go func() { served <- s.Serve(lis) }()
		var callers sync.WaitGroup
		var begun atomic.Int64
		for range 8 {
			callers.Go(func() {
				for range 4 {
					conn, err := grpc.NewClient(lis.Addr().String(),
						grpc.WithTransportCredentials(insecure.NewCredentials()))
					if err != nil {
						t.Error(err)
						return
					}
					begun.Add(1)
					err = conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note()))
					_ = conn.Close()
					if calls.Add(1); err != nil {
						failed.Add(1)
						t.Errorf("a call failed: %v", err)
					}
				}
			})
		}
		testkit.Eventually(t, time.Minute, func() bool { return begun.Load() > rand.N(int64(24)) })
		s.NotReady()
		callers.Wait()
		s.Stop()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("figure: %d of %d calls failed", failed.Load(), calls.Load())
}

// The log says when a server asks its callers to leave, when it drains, what is under
// way then, and what it had to cancel.
func TestTheLogSaysWhatADrainCost(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, plaintext(), echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		close(entered)
		<-release
		return in, nil
	}})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = r.call(t.Context(), open, newNote("x"))
	}()
	<-entered
	r.NotReady()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	r.Shutdown(over)
	for message, calls := range map[string]any{"callers are asked to connect to other replicas": 1.0, "draining": 1.0,
		"calls are cancelled: they did not end within the time to drain": 1.0} {
		lines := r.log.lines(t, message)
		if len(lines) != 1 || lines[0]["calls"] != calls || lines[0]["streams"] != 0.0 {
			t.Errorf("%s: logged %v", message, lines)
		}
	}
	if lines := r.log.lines(t, "drained"); len(lines) > 0 {
		t.Errorf("logged %v", lines)
	}
	close(release)
	<-answered
}
