package grpcclient

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

const (
	// policyName is the name of the load balancing policy in a service config.
	policyName = "purser_round_robin"
	// silentAfter is how long a replica may leave calls without a byte of an answer, and
	// answer no other meanwhile, before calls go to the other replicas.
	silentAfter = time.Second
)

// policy is gRPC's round robin that passes over a replica that went silent: one whose
// process hangs while its kernel keeps the connection. Keepalive finds it only after
// keepaliveTime and keepaliveTimeout, and gRPC doesn't allow a shorter keepaliveTime.
//
// It prefers others, and excludes nobody: when all replicas are silent, as while the
// database of all of them stands still, it is round robin.
type policy struct{ balancer.Builder }

//nolint:gochecknoinits // gRPC finds a policy by its name alone, and policies are registered in init functions
func init() { balancer.Register(policy{balancer.Get(roundrobin.Name)}) }

// Name implements balancer.Builder.
func (policy) Name() string { return policyName }

// Build implements balancer.Builder.
func (p policy) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return p.Builder.Build(&watched{ClientConn: cc}, opts)
}

// watched is a connection whose replicas are watched.
type watched struct {
	balancer.ClientConn
	replicas sync.Map // of *replica by balancer.SubConn
	number   atomic.Int64
}

// NewSubConn implements balancer.ClientConn.
func (w *watched) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	r, listener := &replica{}, opts.StateListener
	var conn balancer.SubConn
	opts.StateListener = func(s balancer.SubConnState) { // not called before conn.Connect
		if s.ConnectivityState == connectivity.Shutdown {
			w.replicas.Delete(conn)
			w.number.Add(-1)
		}
		r.connected()
		if listener != nil {
			listener(s)
		}
	}
	//nolint:staticcheck // SA1019: round robin below gives it one address, as it should be
	conn, err := w.ClientConn.NewSubConn(addrs, opts)
	if err != nil {
		return nil, err
	}
	w.replicas.Store(conn, r)
	w.number.Add(1)
	return conn, nil
}

// UpdateState implements balancer.ClientConn.
func (w *watched) UpdateState(s balancer.State) {
	s.Picker = picker{s.Picker, w}
	w.ClientConn.UpdateState(s)
}

// picker picks replicas, and others for those that are silent.
type picker struct {
	balancer.Picker
	watched *watched
}

// Pick implements balancer.Picker.
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	now := time.Now()
	for left := p.watched.number.Load(); ; left-- {
		picked, err := p.Picker.Pick(info)
		if err != nil {
			return picked, err
		}
		v, ok := p.watched.replicas.Load(picked.SubConn)
		if !ok {
			return picked, nil
		}
		r := v.(*replica)
		if left > 1 && r.silent(now) {
			if picked.Done != nil {
				picked.Done(balancer.DoneInfo{})
			}
			continue
		}
		if info.Ctx.Value(unaryCall{}) == nil { // a stream may rightly say nothing for hours
			return picked, nil
		}
		r.begin(now)
		done := picked.Done
		picked.Done = func(d balancer.DoneInfo) {
			r.end(now, time.Now(), d)
			if done != nil {
				done(d)
			}
		}
		return picked, nil
	}
}

// unaryCall is the key of a value in the context of a unary call.
type unaryCall struct{}

func markUnary(ctx context.Context) context.Context { return context.WithValue(ctx, unaryCall{}, true) }

// replica is what is known of the answers of one replica.
type replica struct {
	mu      sync.Mutex
	waiting int       // unary calls without an answer
	since   time.Time // when the first call after the last answer began; zero without one
}

// connected forgets what was known on an earlier connection.
func (r *replica) connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Time{}
	if r.waiting > 0 {
		r.since = time.Now()
	}
}

// silent reports whether calls should go to others. After all calls of a silent replica
// have timed out, it says no once, so that one call more asks.
func (r *replica) silent(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() || now.Sub(r.since) < silentAfter {
		return false
	}
	return r.waiting > 0
}

func (r *replica) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting++
	if r.since.IsZero() {
		r.since = now
	}
}

// end takes the end of a call that began at began.
func (r *replica) end(began, now time.Time, d balancer.DoneInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	switch {
	case d.BytesReceived && r.waiting > 0:
		r.since = now
	case d.BytesReceived, r.waiting == 0 && !timedOut(began, now, d.Err):
		r.since = time.Time{}
	}
}

// timedOut reports whether a call ended after it had waited for long enough to know that
// its replica is silent. One with a shorter deadline says nothing.
func timedOut(began, now time.Time, err error) bool {
	return now.Sub(began) >= silentAfter && status.Code(err) == codes.DeadlineExceeded
}
