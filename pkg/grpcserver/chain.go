package grpcserver

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
)

// call is a call on its way through the layers, which are the same for unary and
// streaming methods.
type call struct {
	method string
	rule   Rule
	hasRule,
	streaming bool
	// check validates a received message. The validate layer sets it; it is called
	// before the handler of a unary call and at each receive of a stream.
	check func(msg any) error
	// caller is the user's id. The authn layer sets it, also for the layers outside
	// of it.
	caller string

	layers []layer // those inside of the current one
	// handler is that of a stream. A unary call has answer, the message that it is asked, and what it returned.
	handler   func(ctx context.Context) error
	answer    grpc.UnaryHandler
	req, resp any
}

// next runs the layers inside of the current one and then the handler. A layer
// calls it at most once.
func (c *call) next(ctx context.Context) error {
	if len(c.layers) == 0 {
		if c.answer != nil {
			return c.answered(ctx)
		}
		return c.handler(ctx)
	}
	l := c.layers[0]
	c.layers = c.layers[1:]
	return l.run(ctx, c)
}

// answered runs the handler of a unary call.
func (c *call) answered(ctx context.Context) (err error) {
	if err := checkReadable(c.req); err != nil {
		return err
	}
	if err := c.check(c.req); err != nil {
		return err
	}
	if c.resp, err = c.answer(ctx, c.req); err != nil {
		return err
	}
	return checkSize(c.resp)
}

// layer is one step of every call: it calls c.next or refuses the call.
type layer struct {
	name string
	run  func(ctx context.Context, c *call) error
}

// Layers names the layers of every call, outermost first.
func Layers() []string {
	return []string{"log", "recover", "start", "errs", "deadline", "authn", "access", "ratelimit", "caller",
		"validate"}
}

func chain(cfg Config, d Deps, v *checks) []layer {
	layers := []layer{
		{"log", logLayer(d.Log)},
		{"recover", recoverLayer(d.Log)},
		{"start", startLayer(d.Starting)},
		{"errs", errsLayer(d.Log, d.Translate)},
		{"deadline", deadlineLayer(cfg.MinTimeout, cfg.MaxTimeout)},
		{"authn", authnLayer(d.Verifier)},
		{"access", accessLayer()},
		{"ratelimit", rateLayer(cfg.RatePerSecond, cfg.Burst)},
		{"caller", callerLayer(v)},
		{"validate", validateLayer(v)},
	}
	if d.Context != nil {
		layers = append(layers, layer{"context",
			func(ctx context.Context, c *call) error { return c.next(d.Context(ctx)) }})
	}
	return layers
}

func (c *call) public() bool { return c.rule.Public || isInfrastructure(c.method) }

func unary(layers []layer, rules func(string) (Rule, bool), open *inFlight) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		open.add(1, info.FullMethod, false)
		defer open.add(-1, info.FullMethod, false)
		c := newCall(info.FullMethod, layers, rules, false)
		c.answer, c.req = handler, req
		if err := c.next(ctx); err != nil {
			return nil, err
		}
		return c.resp, nil
	}
}

// shuttingDown is the reason of the end of a stream whose server ends.
const shuttingDown = "SHUTTING_DOWN"

// reopenAfter is when the caller should open such a stream again.
const reopenAfter = 100 * time.Millisecond

// stream returns the interceptor of streaming calls. A stream's context also ends
// with serving; the answer is then UNAVAILABLE, so that the caller opens it again on
// another replica.
func stream(serving context.Context, layers []layer, rules func(string) (Rule, bool),
	open *inFlight) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if srv == nil { // there is no such method: the handler says so
			return handler(srv, ss)
		}
		open.add(1, info.FullMethod, true)
		defer open.add(-1, info.FullMethod, true)
		c := newCall(info.FullMethod, layers, rules, true)
		c.handler = func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(serving, cancel)()
			err := handler(srv, &checkedStream{ServerStream: ss, ctx: ctx, check: c.check})
			if err != nil && serving.Err() != nil && ss.Context().Err() == nil {
				return errs.Unavailable(shuttingDown, "this server is being stopped, as in a rollout, and nothing is "+
					"wrong with it: open the stream again now, on another one").After(reopenAfter).Because(err)
			}
			return err
		}
		return c.next(ss.Context())
	}
}

// checkSize returns an error for a message that is too large to be sent. gRPC refuses
// it too, without a reason, and after the call was logged as OK.
func checkSize(m any) error {
	if sent, ok := m.(proto.Message); ok {
		if n := proto.Size(sent); n > MaxMessage {
			return errs.Exhausted("RESPONSE_TOO_LARGE", fmt.Sprintf("the response has %d bytes, and at most %d can "+
				"be sent: ask for less, for example with a smaller page_size", n, MaxMessage))
		}
	}
	return nil
}

func newCall(method string, layers []layer, rules func(string) (Rule, bool), streaming bool) *call {
	c := &call{method: method, layers: layers, streaming: streaming, check: func(any) error { return nil }}
	c.rule, c.hasRule = rules(method)
	return c
}

// checkedStream validates every message that it receives. Nothing passes once its
// caller is refused.
type checkedStream struct {
	grpc.ServerStream
	ctx   context.Context //nolint:containedctx // a ServerStream carries its context
	check func(any) error
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if refused := refusedSince(s.ctx); refused != nil {
		return refused
	}
	if err != nil {
		return err
	}
	if err := checkReadable(m); err != nil {
		return err
	}
	return s.check(m)
}

func (s *checkedStream) SendMsg(m any) error {
	if refused := refusedSince(s.ctx); refused != nil {
		return refused
	}
	if err := checkSize(m); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
