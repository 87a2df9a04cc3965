package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
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
	// lis is what is served, and first the first server's part of it; nil before and
	// after Serve.
	lis   *sharedListener
	first *oneListener
	// second is the second server, and ended receives the end of its Serve.
	second *grpc.Server
	ended  chan error
	// stopped says that Shutdown or Stop was called.
	stopped bool
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
// any, without serving. A server serves one listener at a time.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.Check(); err != nil {
		return err
	}
	s.Ready()
	h := &s.handover
	h.mu.Lock()
	switch {
	case h.stopped:
		h.mu.Unlock()
		_ = lis.Close()
		return nil
	case h.lis != nil:
		h.mu.Unlock()
		return errors.New("serve: the server serves another listener")
	}
	h.lis, h.first = share(lis)
	h.mu.Unlock()
	failed := notStopped(s.Server.Serve(h.first))
	h.mu.Lock()
	ended := h.ended
	h.lis, h.first, h.ended = nil, nil, nil
	h.mu.Unlock()
	if ended != nil {
		failed = errors.Join(failed, notStopped(<-ended))
	}
	if failed != nil {
		return fmt.Errorf("serve: %w", failed)
	}
	return nil
}

// notStopped returns the error of a Serve, unless it says that Stop was called before.
func notStopped(err error) error {
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
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
	if h.stopped || h.lis == nil || h.second != nil {
		return
	}
	lis, ok := h.lis.listener()
	if !ok {
		return
	}
	first := h.first
	second, ended := grpc.NewServer(append(h.options, connectionAge(noticeConnectionAge))...), make(chan error, 1)
	for _, r := range h.services {
		second.RegisterService(r.desc, r.impl)
	}
	h.second, h.ended = second, ended
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "callers are asked to connect to other replicas",
		s.open.attrs())
	go func() { ended <- second.Serve(lis) }()
	go func() {
		first.leave()
		s.Server.GracefulStop() // which Serve waits for
	}()
}

// Shutdown ends the streams' contexts, waits for the calls in progress until ctx
// is done, and cancels those that are left. It doesn't wait for handlers that
// ignore the cancellation.
// It logs how many there are at its start, and how many of them it had to cancel.
func (s *Server) Shutdown(ctx context.Context) {
	begun := time.Now()
	s.log.LogAttrs(ctx, slog.LevelInfo, "draining", s.open.attrs())
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
		s.log.LogAttrs(ctx, slog.LevelInfo, "drained", slog.Duration("took", time.Since(begun)))
	case <-ctx.Done():
		s.log.LogAttrs(ctx, slog.LevelWarn, "calls are cancelled: they did not end within the time to drain",
			slog.Duration("took", time.Since(begun)), s.open.attrs())
		s.Stop()
	}
}

// GracefulStop is Shutdown without a limit of time.
func (s *Server) GracefulStop() { s.Shutdown(context.Background()) }

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
	h.stopped = true
	servers := []*grpc.Server{s.Server}
	if h.second != nil {
		servers = append(servers, h.second)
	}
	return servers
}
