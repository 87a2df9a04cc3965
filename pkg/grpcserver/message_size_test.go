package grpcserver_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
)

func TestAMessageTooLargeIsRefused(t *testing.T) {
	r := start(t, plaintext(), echo{})
	_, e := r.call(t.Context(), open, newNote(strings.Repeat("x", grpcserver.MaxMessage)))
	if e == nil || e.Kind != errs.KindExhausted {
		t.Errorf("%v", e)
	}
	if _, e := r.call(as(t, "Bearer "+strings.Repeat("x", 1<<20)), mine, newNote("x")); e == nil {
		t.Error("a megabyte of headers was taken")
	}
	if _, e := r.call(t.Context(), open, newNote("x")); e != nil {
		t.Errorf("the server did not survive: %v", e)
	}
}

// gRPC refuses what is too large to be sent by itself, after the call was logged as OK.
func TestAResponseThatIsTooLargeIsAnErrorWithAReason(t *testing.T) {
	large := newNote(strings.Repeat("x", grpcserver.MaxMessage))
	r := start(t, plaintext(), echo{
		unary:  func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) { return large, nil },
		stream: func(ss grpc.ServerStream) error { return ss.SendMsg(large) },
	})
	_, e := r.call(t.Context(), open, newNote("x"))
	if e == nil || e.Kind != errs.KindExhausted || e.Reason != "RESPONSE_TOO_LARGE" ||
		!strings.Contains(e.Message, "at most 4194304 can be sent") {
		t.Errorf("answered %v", e)
	}
	if log := r.log.String(); !strings.Contains(log, `"code":"ResourceExhausted"`) ||
		strings.Contains(log, `"code":"OK"`) {
		t.Errorf("logged %s", log)
	}
	if e := exchange(r.openStream(as(t, "Bearer reader-secret"), t), newNote("x")); reason(e) != "RESPONSE_TOO_LARGE" {
		t.Errorf("a stream answered %v", e)
	}
}

func TestBytesThatAreNoMessageAreRefused(t *testing.T) {
	called := false
	r := start(t, plaintext(), echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		called = true
		return in, nil
	}})
	in := dynamicpb.NewMessage(note())
	in.SetUnknown(protoreflect.RawFields{0x0a, 0x02, 0xff, 0xfe}) // a text that isn't UTF-8
	_, e := r.call(t.Context(), open, in)
	if e == nil || e.Kind != errs.KindInvalid || e.Reason != "MESSAGE_UNREADABLE" ||
		!strings.Contains(e.Message, string(note().FullName())) || called {
		t.Errorf("%v, and the handler was called: %t", e, called)
	}
	e = exchange(r.openStream(as(t, "Bearer reader-secret"), t), in)
	if reason(e) != "MESSAGE_UNREADABLE" || strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Errorf("a stream answered %v, and logged %s", e, r.log.String())
	}
}
