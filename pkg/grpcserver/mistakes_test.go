package grpcserver_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
)

func TestACallOfWhatThereIsNotSaysWhatThereIs(t *testing.T) {
	r := start(t, plaintext(), echo{})
	for method, want := range map[string][2]string{
		"/test.v1.Echo/open":             {"METHOD_UNKNOWN", "its name is Open, in this case"},
		"/test.v1.Echo/Shout":            {"METHOD_UNKNOWN", "it has Mine, Open, Read, Stream"},
		"/test.v1.Reverb/Open":           {"SERVICE_UNKNOWN", "it serves test.v1.Echo"},
		"/a/" + strings.Repeat("x", 500): {"SERVICE_UNKNOWN", "test.v1.Echo"},
	} {
		_, e := r.call(t.Context(), method, newNote("x"))
		if e == nil || e.Reason != want[0] || !strings.Contains(e.Message, want[1]) || len(e.Message) > 300 {
			t.Errorf("%s: %v", method, e)
		}
	}
	if lines := r.log.lines(t, "call"); len(lines) != 0 {
		t.Errorf("the log has %v", lines)
	}
}

func TestTheContractsViolationsAndTheServicesOwnAreToldAtOnce(t *testing.T) {
	called := false
	r := start(t, plaintext(), echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) {
		called = true
		return in, nil
	}})
	r.CheckMessages(func(m proto.Message) error {
		if textOf(m.(*dynamicpb.Message)) == "own" {
			return errs.AllInvalid(errs.Invalid("count", "must be right"), errs.Invalid("tags", "must be set"))
		}
		return nil
	})
	bad := newNote("own")
	bad.Set(note().Fields().ByName("count"), protoreflect.ValueOfInt32(10))
	_, e := r.call(t.Context(), open, bad)
	if e == nil || e.Message != "count: must be right; tags: must be set" || called {
		t.Errorf("%v, and the handler was called: %t", e, called)
	}
	if _, e := r.call(t.Context(), open, newNote("x")); e != nil || !called {
		t.Errorf("a good message: %v", e)
	}
}
