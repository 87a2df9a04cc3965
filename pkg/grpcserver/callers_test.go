package grpcserver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

// changing is a verifier whose answer changes.
type changing struct {
	mu      sync.Mutex
	answer  error
	verdict int // how often it has given this answer
}

func (c *changing) Verify(ctx context.Context, token string) (authn.Caller, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict++
	if c.answer != nil {
		return authn.Caller{}, c.answer
	}
	return known().Verify(ctx, token)
}

func (c *changing) set(answer error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer, c.verdict = answer, 0
}

func (c *changing) given() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verdict
}

func TestARunningStreamEndsWhenItsTokenIsRefused(t *testing.T) {
	ended := make(chan struct{}, 1)
	waits := func(ss grpc.ServerStream) error { // as a stream of the server alone does
		if err := ss.SendMsg(newNote("x")); err != nil {
			return err
		}
		<-ss.Context().Done()
		ended <- struct{}{}
		return nil
	}
	for name, tt := range map[string]struct {
		handler func(grpc.ServerStream) error
		again   bool // the caller sends another message
	}{
		"while the server waits for news":       {waits, false},
		"at the next message to and from there": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &changing{}
			r := start(t, plaintext(), echo{stream: tt.handler}, func(d *grpcserver.Deps) { d.Verifier = v })
			s := r.openStream(as(t, "Bearer reader-secret"), t)
			if e := exchange(s, newNote("x")); e != nil {
				t.Fatal(e)
			}
			// The control: it goes on while nothing says that the token is refused.
			v.set(errs.Unavailable("KEYS_UNAVAILABLE", "the keys can't be read"))
			testkit.Eventually(t, time.Minute, func() bool { return v.given() > 1 })
			if tt.again {
				if e := exchange(s, newNote("x")); e != nil {
					t.Fatal(e)
				}
			}
			v.set(authn.TokenRevoked())
			began := time.Now()
			testkit.Eventually(t, time.Minute, func() bool { return v.given() > 0 })
			if tt.again {
				_ = s.SendMsg(newNote("x"))
			}
			err := s.RecvMsg(dynamicpb.NewMessage(note()))
			if e := errs.As(grpcerr.FromError(err)); reason(e) != "TOKEN_REVOKED" {
				t.Fatalf("the stream ended with %v", err)
			}
			testkit.Figure(t, "a stream ended %s after its token was refused",
				time.Since(began).Round(time.Millisecond))
			if tt.handler != nil {
				<-ended
			}
		})
	}
}

func TestTheServicesOwnCheckOfACallerComesBeforeTheMessage(t *testing.T) {
	r := start(t, plaintext(), echo{})
	var asked []string
	r.CheckCallers(func(ctx context.Context, method string) error {
		asked = append(asked, method)
		if authn.CallerFrom(ctx).Anonymous() || method == read && authn.RequiredPermission(ctx) != "echo:read" {
			t.Errorf("%s: the check doesn't know the caller", method)
		}
		return errs.PermissionDenied("GONE", "the caller may no more")
	})
	for name, tt := range map[string]struct {
		auth, method, text, want string
	}{
		"a valid message":         {"Bearer reader-secret", read, "x", "GONE"},
		"an invalid message":      {"Bearer reader-secret", read, "too long a text", "GONE"},
		"any caller's method":     {"Bearer plain-secret", mine, "x", "GONE"},
		"without the permission":  {"Bearer plain-secret", read, "x", "PERMISSION_MISSING"},
		"with a token of nobody":  {"Bearer nobody", read, "x", "TOKEN_INVALID"},
		"a method that is public": {"Bearer reader-secret", open, "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, e := r.call(as(t, tt.auth), tt.method, newNote(tt.text)); reason(e) != tt.want {
				t.Errorf("%v, want %q", e, tt.want)
			}
		})
	}
	if e := exchange(r.openStream(as(t, "Bearer reader-secret"), t), newNote("x")); reason(e) != "GONE" {
		t.Errorf("a stream: %v", e)
	}
	if len(asked) != 4 {
		t.Errorf("asked for %v", asked)
	}
}
