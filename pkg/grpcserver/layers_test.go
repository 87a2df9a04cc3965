package grpcserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
)

var order = []string{"log", "recover", "start", "errs", "deadline", "authn", "access", "ratelimit", "caller",
	"validate"}

func TestACallPassesTheLayersInTheirOrder(t *testing.T) {
	d := grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.DiscardHandler)}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer reader-secret"))
	entered, _ := grpcserver.Trace(ctx, plaintext(), d, read)
	if !slices.Equal(entered, order) { // a nil message stops at the validation
		t.Errorf("entered %v, want %v", entered, order)
	}
	if !slices.Equal(grpcserver.Layers(), order) {
		t.Errorf("Layers() says %v, want %v", grpcserver.Layers(), order)
	}
}

// TestOfTwoErrorsThatOfTheOuterLayerIsReturned shows the order from outside: each call
// breaks the rules of two neighbours.
func TestOfTwoErrorsThatOfTheOuterLayerIsReturned(t *testing.T) {
	slow := plaintext()
	slow.MinTimeout, slow.MaxTimeout = time.Hour, 2*time.Hour
	empty := plaintext()
	empty.RatePerSecond, empty.Burst = 1e-9, 1
	for name, tt := range map[string]struct {
		cfg    grpcserver.Config
		auth   string
		method string
		text   string
		want   string
	}{
		"the deadline before the token":   {slow, "Bearer nobody", read, "ok", "DEADLINE_TOO_SHORT"},
		"the token before the permission": {plaintext(), "Bearer nobody", read, "ok", "TOKEN_INVALID"},
		"the permission before the rate":  {empty, "Bearer plain-secret", read, "ok", "PERMISSION_MISSING"},
		"the rate before the validation": {empty, "Bearer reader-secret", read, "too long a text",
			"RATE_LIMITED"},
		"the validation before the handler": {plaintext(), "Bearer reader-secret", read, "too long a text",
			"INVALID_ARGUMENT"},
		"a panic in the token's layer, caught": {plaintext(), "Bearer panic", read, "ok", "INTERNAL"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, tt.cfg, echo{unary: func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) {
				return nil, errs.NotFound("handler")
			}})
			ctx, cancel := context.WithTimeout(as(t, tt.auth), time.Minute)
			defer cancel()
			_, e := r.call(ctx, tt.method, newNote(tt.text))
			if tt.want == "RATE_LIMITED" { // the first call took what there was
				_, e = r.call(ctx, tt.method, newNote(tt.text))
			}
			if reason(e) != tt.want {
				t.Errorf("%v, want %s", e, tt.want)
			}
			if lines := r.log.lines(t, "call"); len(lines) == 0 || lines[len(lines)-1]["code"] == "OK" {
				t.Errorf("the log, outside them all, has %v", lines)
			}
		})
	}
}

func TestAPanicIsAnInternalErrorWithoutItsText(t *testing.T) {
	boom := func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) { panic("dsn=hunter2") }
	for name, tt := range map[string]struct {
		handler func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error)
		change  func(*grpcserver.Deps)
	}{
		"in the handler": {boom, func(*grpcserver.Deps) {}},
		"in the translation of errors": {
			func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) { return nil, errors.New("x") },
			func(d *grpcserver.Deps) { d.Translate = func(error) error { panic("dsn=hunter2") } },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, plaintext(), echo{unary: tt.handler}, tt.change)
			_, e := r.call(t.Context(), open, newNote("x"))
			if e == nil || e.Kind != errs.KindInternal || strings.Contains(e.Error(), "hunter2") {
				t.Errorf("the caller was told %v", e)
			}
			lines := r.log.lines(t, "panic")
			if len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["stack"]), "grpcserver_test") ||
				lines[0]["panic"] != "dsn=hunter2" {
				t.Errorf("the log has %v", lines)
			}
			if _, e := r.call(t.Context(), mine, newNote("x")); reason(e) != "TOKEN_MISSING" {
				t.Errorf("the server did not survive: %v", e)
			}
		})
	}
}

func TestAnErrorTellsTheCallerItsKindAndTheLogItsCause(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		reason string
		logged string
	}{
		"a typed error":            {errs.Conflict("LOST", "again").Because(errors.New("hunter2")), "LOST", ""},
		"an unclassified error":    {errors.New("dsn=hunter2"), "INTERNAL", "call failed"},
		"one that Translate knows": {errors.New("database away"), "DATABASE_AWAY", "dependency unavailable"},
		"a dependency that is away": {errs.Unavailable("CHAIN_AWAY", "away").Because(errors.New("hunter2")),
			"CHAIN_AWAY", "dependency unavailable"},
		"a call that was given up":   {fmt.Errorf("query: %w", context.Canceled), "CANCELED", ""},
		"a typed error of zero kind": {&errs.Error{Message: "hunter2"}, "INTERNAL", "call failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, plaintext(), echo{unary: func(context.Context, *dynamicpb.Message) (*dynamicpb.Message,
				error) {
				return nil, tt.err
			}},
				func(d *grpcserver.Deps) {
					d.Translate = func(err error) error {
						if err.Error() == "database away" {
							return errs.Unavailable("DATABASE_AWAY", "away").Because(err)
						}
						return err
					}
				})
			_, e := r.call(t.Context(), open, newNote("x"))
			if reason(e) != tt.reason || strings.Contains(e.Error(), "hunter2") {
				t.Errorf("the caller was told %v", e)
			}
			for _, msg := range []string{"call failed", "dependency unavailable"} {
				lines := r.log.lines(t, msg)
				if (len(lines) == 1) != (msg == tt.logged) {
					t.Errorf("%q lines: %v", msg, lines)
				}
			}
		})
	}
}

func TestTheDeadlineIsBoundedAndBeforeTheCallers(t *testing.T) {
	for name, tt := range map[string]struct {
		left, minTimeout, maxTimeout time.Duration // left 0: the caller sets none
		streaming                    bool
		want                         time.Duration // 0: refused; below 0: no deadline
	}{
		"a caller that sets none gets the most": {0, time.Millisecond, 30 * time.Second, false, 30 * time.Second},
		"a longer one is cut to the most": {time.Minute, time.Millisecond, 30 * time.Second, false,
			30 * time.Second},
		"a shorter one less 20 ms": {10 * time.Second, time.Millisecond, 30 * time.Second, false,
			10*time.Second - 20*time.Millisecond},
		"a very short one by a tenth": {100 * time.Millisecond, time.Millisecond, 30 * time.Second,
			false, 90 * time.Millisecond},
		"one below the least is refused at once": {4 * time.Millisecond, 5 * time.Millisecond, 30 * time.Second,
			false, 0},
		"one that is over is refused": {-time.Second, 0, 30 * time.Second, false, 0},
		"a stream lives on without":   {0, time.Hour, 2 * time.Hour, true, -1},
		"exactly the least is enough for its method": {10 * time.Millisecond, 10 * time.Millisecond, time.Second,
			false, 9 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, begun := t.Context(), time.Now()
				if tt.left != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.left)
					defer cancel()
				}
				got := time.Duration(0)
				err := grpcserver.Deadline(ctx, tt.minTimeout, tt.maxTimeout, tt.streaming, func(
					ctx context.Context) error {
					got = -1
					if d, ok := ctx.Deadline(); ok {
						got = d.Sub(begun)
					}
					return nil
				})
				if got != tt.want || (tt.want == 0) != (reason(errs.As(err)) == "DEADLINE_TOO_SHORT") {
					t.Errorf("%s, %v; want %s", got, err, tt.want)
				}
			})
		})
	}
}

func TestTheHandlerGetsTheDefaultDeadline(t *testing.T) {
	var left time.Duration
	r := start(t, plaintext(), echo{unary: func(ctx context.Context, in *dynamicpb.Message) (*dynamicpb.Message,
		error) {
		d, ok := ctx.Deadline()
		if ok {
			left = time.Until(d)
		}
		return in, nil
	}})
	if _, e := r.call(t.Context(), open, newNote("x")); e != nil || left <= 0 || left > 30*time.Second {
		t.Errorf("%v; the handler had %s", e, left)
	}
}

func TestEachIdentityHasItsOwnRate(t *testing.T) {
	cfg := plaintext()
	cfg.RatePerSecond, cfg.Burst = 0.001, 2
	r := start(t, cfg, echo{})
	for _, who := range []string{"Bearer reader-secret", "Bearer plain-secret"} {
		for i := range 3 {
			_, e := r.call(as(t, who), mine, newNote("x"))
			if (i < 2) != (e == nil) {
				t.Fatalf("call %d of %s: %v", i, who, e)
			}
			if i == 2 && (e.Kind != errs.KindExhausted || e.Reason != "RATE_LIMITED" || e.RetryAfter <= 0) {
				t.Errorf("refused by %+v", e)
			}
		}
	}
	if _, e := r.call(as(t, "Bearer reader-secret"), open, newNote("x")); e != nil {
		t.Errorf("a public method counts by address, not by the token that nobody looked at: %v", e)
	}
}

func TestPeersAreCountedByAddressAndIPv6ByTheirNetwork(t *testing.T) {
	from := func(addr string) context.Context {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return peer.NewContext(t.Context(), &peer.Peer{Addr: a})
	}
	for name, tt := range map[string]struct {
		ctx  context.Context //nolint:containedctx // a table of contexts
		want string
	}{
		"IPv4 without its port":       {from("192.0.2.1:4711"), "192.0.2.1"},
		"IPv4 inside IPv6":            {from("[::ffff:192.0.2.1]:4711"), "192.0.2.1"},
		"IPv6 by its /64":             {from("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::/64"},
		"another host of the network": {from("[2001:db8:1:2:ffff::1]:2"), "2001:db8:1:2::/64"},
		"another network":             {from("[2001:db8:1:3::1]:2"), "2001:db8:1:3::/64"},
		"a link-local one with its zone": {peer.NewContext(t.Context(),
			&peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}}), "fe80::/64"},
		"a socket in the file system": {peer.NewContext(t.Context(),
			&peer.Peer{Addr: &net.UnixAddr{Name: "/run/x"}}), "/run/x"},
		"nobody": {t.Context(), "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := grpcserver.PeerAddress(tt.ctx); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	allow := grpcserver.Rate(0.001, 1)
	for _, step := range []struct {
		ctx  context.Context //nolint:containedctx // a table of contexts
		user string
		ok   bool
	}{
		{from("[2001:db8::1]:1"), "", true}, {from("[2001:db8::2]:1"), "", false},
		{from("[2001:db8:0:1::1]:1"), "", true},
		{from("[2001:db8::1]:1"), "user", true}, {from("192.0.2.1:1"), "user", false},
	} {
		if err := allow(step.ctx, step.user); (err == nil) != step.ok {
			t.Errorf("%s %q: %v", grpcserver.PeerAddress(step.ctx), step.user, err)
		}
	}
}

func TestTheErrorOfAnInvalidMessageNamesFieldAndRule(t *testing.T) {
	called := false
	r := start(t, plaintext(), echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		called = true
		return in, nil
	}})
	bad := newNote("too long a text")
	bad.Set(note().Fields().ByName("count"), protoreflect.ValueOfInt32(10))
	_, e := r.call(t.Context(), open, bad)
	if e == nil || e.Kind != errs.KindInvalid || called {
		t.Fatalf("%v, and the handler was called: %t", e, called)
	}
	var fields []string
	for _, v := range e.Violations {
		fields = append(fields, v.Field)
		if v.Rule == "" || !strings.Contains(e.Message, v.Field+": "+v.Rule) {
			t.Errorf("%q does not tell %+v", e.Message, v)
		}
	}
	if !slices.Equal(fields, []string{"text", "count"}) {
		t.Errorf("fields %v", fields)
	}
	wrong := func(n int) *dynamicpb.Message {
		m := newNote("x")
		for range n {
			m.Mutable(note().Fields().ByName("tags")).List().Append(protoreflect.ValueOfString(""))
		}
		return m
	}
	if _, e := r.call(t.Context(), open, wrong(5_000)); e == nil || len(e.Violations) != 10 ||
		e.Violations[9].Field != "tags[9]" || len(e.Message) > 4<<10 ||
		!strings.Contains(e.Message, "and 4990 more") {
		t.Errorf("five thousand violations came back as %+v", e)
	}
	if _, e := r.call(t.Context(), open, wrong(50_000)); e == nil || len(e.Violations) != 1 ||
		e.Violations[0].Field != "tags[0]" {
		t.Errorf("of a large message not the first violation alone came back: %+v", e)
	}
}

func TestEveryCallHasOneLineAndNoneCarriesTheToken(t *testing.T) {
	r := start(t, plaintext(), echo{unary: func(ctx context.Context, in *dynamicpb.Message) (*dynamicpb.Message,
		error) {
		switch textOf(in) {
		case "panic":
			panic(authn.CallerFrom(ctx).UserID)
		case "fail":
			return nil, errors.New("boom")
		}
		return in, nil
	}})
	steps := []struct{ method, auth, text, code string }{
		{open, "", "x", "OK"}, {read, "Bearer reader-secret", "x", "OK"},
		{read, "Bearer plain-secret", "x", "PermissionDenied"},
		{mine, "Bearer nobody-secret", "x", "Unauthenticated"}, {mine, "Basic other-secret", "x", "Unauthenticated"},
		{mine, "Bearer reader-secret", "panic", "Internal"}, {mine, "Bearer reader-secret", "fail", "Internal"},
		{mine, "Bearer reader-secret", "", "InvalidArgument"},
	}
	for i, s := range steps {
		ctx := as(t)
		if s.auth != "" {
			ctx = as(t, s.auth)
		}
		_, _ = r.call(ctx, s.method, newNote(s.text))
		lines := r.log.lines(t, "call")
		if len(lines) != i+1 {
			t.Fatalf("%d lines after %d calls:\n%s", len(lines), i+1, r.log)
		}
		if last := lines[i]; last["code"] != s.code || last["method"] != s.method || last["took"] == nil {
			t.Errorf("%+v was logged as %v", s, last)
		}
	}
	if s := openAndClose(t, r); s != "OK" {
		t.Errorf("a stream's line has code %s", s)
	}
	if strings.Contains(r.log.String(), "secret") {
		t.Errorf("a token is in the log:\n%s", r.log)
	}
	if caller := r.log.lines(t, "call")[1]["caller"]; caller != "0190c0de-0000-7000-8000-00000000000a" {
		t.Errorf("the line names the caller %v", caller)
	}
}
