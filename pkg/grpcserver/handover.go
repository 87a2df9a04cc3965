package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxConnectionAge is when a caller is asked to connect again, so that it asks DNS
	// and a new replica gets its share: about 25 s, as gRPC varies it by a tenth.
	maxConnectionAge = 25 * time.Second
	// noticeConnectionAge is the same while the server waits for its callers to leave.
	noticeConnectionAge = 2 * time.Second
	// callGrace is how long calls and streams may go on after their caller was asked to
	// connect again.
	callGrace = 5 * time.Minute
)

// connectionAge asks the caller of a connection of this age to connect again.
func connectionAge(age time.Duration) grpc.ServerOption {
	return grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: age, MaxConnectionAgeGrace: callGrace, Time: 30 * time.Second, Timeout: 10 * time.Second,
	})
}

// handover moves the callers of a server that is going to stop to other replicas
// before it does. gRPC can ask a caller to connect again (GOAWAY) only with the end
// of a server, which closes the listener, so that callers who don't know another
// replica yet fail. So a second server of the same services takes the connections
// that are opened in the meantime, and asks their callers again every two seconds.
type handover struct {
	// options of the second server, without connectionAge.
	options []grpc.ServerOption

	mu       sync.Mutex
	services []registration
	// lis is what is served; nil before Serve and after Shutdown.
	lis *sharedListener
	// second is the second server, and ended receives the end of its Serve.
	second *grpc.Server
	ended  chan error
}

type registration struct {
	desc *grpc.ServiceDesc
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.Server.RegisterService(desc, impl)
	s.handover.mu.Lock()
	defer s.handover.mu.Unlock()
	s.handover.services = append(s.handover.services, registration{desc, impl})
}

// Serve answers calls on lis until Shutdown. It returns the error of Check, if
// any, without serving.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.Check(); err != nil {
		return err
	}
	for name := range s.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
		s.probes.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	s.probes.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	shared := share(lis)
	s.handover.mu.Lock()
	s.handover.lis = shared
	s.handover.mu.Unlock()
	err := s.Server.Serve(shared.listener())
	s.handover.mu.Lock()
	ended := s.handover.ended
	s.handover.mu.Unlock()
	if ended != nil {
		err = errors.Join(err, <-ended)
	}
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// NotReady makes the health port answer NOT_SERVING, and asks callers to connect
// again, so that they find other replicas. Calls that still arrive are answered, and
// the server's own port stays SERVING, unless there is no health port: callers who
// check the health would drop the replica before they know of another.
func (s *Server) NotReady() {
	s.probes.Shutdown()
	h := &s.handover
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lis == nil || h.second != nil {
		return
	}
	second, ended, lis := grpc.NewServer(append(h.options, connectionAge(noticeConnectionAge))...),
		make(chan error, 1), h.lis.listener()
	for _, r := range h.services {
		second.RegisterService(r.desc, r.impl)
	}
	h.second, h.ended = second, ended
	go func() { ended <- second.Serve(lis) }()
	go s.GracefulStop() // which Serve waits for
}

// Shutdown ends the streams' contexts, waits for the calls in progress until ctx
// is done, and cancels those that are left. It doesn't wait for handlers that
// ignore the cancellation.
func (s *Server) Shutdown(ctx context.Context) {
	servers := s.last()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, server := range servers {
			all.Go(server.GracefulStop)
		}
		all.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Stop()
	}
}

// Stop cancels all calls and closes all connections.
func (s *Server) Stop() {
	for _, server := range s.last() {
		server.Stop()
	}
}

// last ends the streams' contexts and returns the servers that are to be stopped.
func (s *Server) last() []*grpc.Server {
	s.health.Shutdown()
	s.probes.Shutdown()
	s.endStreams()
	h := &s.handover
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lis = nil // so that no second server is started
	servers := []*grpc.Server{s.Server}
	if h.second != nil {
		servers = append(servers, h.second)
	}
	return servers
}

// sharedListener gives the connections of one listener to several servers. It is
// closed with the last of theirs.
type sharedListener struct {
	lis      net.Listener
	accepted chan accepted
	closed   chan struct{}
	ended    chan struct{} // closed when accept has returned

	mu   sync.Mutex
	open int // listeners of servers
}

type accepted struct {
	conn net.Conn
	err  error
}

func share(lis net.Listener) *sharedListener {
	s := &sharedListener{lis: lis, accepted: make(chan accepted), closed: make(chan struct{}),
		ended: make(chan struct{})}
	go s.accept()
	return s
}

func (s *sharedListener) accept() {
	defer close(s.ended)
	for {
		conn, err := s.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case s.accepted <- accepted{conn, err}: // gRPC accepts again after an error that may pass
		case <-s.closed:
			if err == nil {
				_ = conn.Close()
			}
		}
	}
}

// listener returns a listener for one more server.
func (s *sharedListener) listener() net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return &oneListener{shared: s, closed: make(chan struct{})}
}

type oneListener struct {
	shared *sharedListener
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.shared.accepted:
		return a.conn, a.err
	case <-l.closed:
	case <-l.shared.ended:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener. That of the last server refuses connections from
// then on.
func (l *oneListener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		s := l.shared
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open--; s.open == 0 {
			close(s.closed)
			err = s.lis.Close()
			<-s.ended
		}
	})
	return err
}

// Addr implements net.Listener.
func (l *oneListener) Addr() net.Addr { return l.shared.lis.Addr() }
