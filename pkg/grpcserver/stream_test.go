package grpcserver_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// openAndClose runs a stream to its end and returns the code in its log line.
func openAndClose(t *testing.T, r *running) string {
	t.Helper()
	before := len(r.log.lines(t, "call"))
	s := r.openStream(as(t, "Bearer reader-secret"), t)
	for range 3 {
		if e := exchange(s, newNote("x")); e != nil {
			t.Fatal(e)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(dynamicpb.NewMessage(note())); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	lines := r.log.lines(t, "call")
	if len(lines) != before+1 {
		t.Fatalf("a stream has %d lines", len(lines)-before)
	}
	return fmt.Sprint(lines[before]["code"])
}

func TestAStreamIsGuardedLikeACall(t *testing.T) {
	r := start(t, plaintext(), echo{})
	for name, tt := range map[string]struct {
		auth []string
		want string
	}{
		"without a token":          {nil, "TOKEN_MISSING"},
		"with an unknown one":      {[]string{"Bearer nobody"}, "TOKEN_INVALID"},
		"with two":                 {[]string{"Bearer reader-secret", "Bearer reader-secret"}, "TOKEN_INVALID"},
		"without the permission":   {[]string{"Bearer plain-secret"}, "PERMISSION_MISSING"},
		"with all that it needs":   {[]string{"Bearer reader-secret"}, ""},
		"when the verifier panics": {[]string{"Bearer panic"}, "INTERNAL"},
	} {
		t.Run(name, func(t *testing.T) {
			if e := exchange(r.openStream(as(t, tt.auth...), t), newNote("x")); reason(e) != tt.want {
				t.Errorf("%v, want %q", e, tt.want)
			}
		})
	}
}

func TestAStreamsHandlerKnowsItsCaller(t *testing.T) {
	r := start(t, plaintext(), echo{stream: func(ss grpc.ServerStream) error {
		if authn.CallerFrom(ss.Context()).Anonymous() {
			return errs.Internal(errors.New("nobody"))
		}
		return errs.Conflict("SEEN", "the caller is known")
	}})
	if e := exchange(r.openStream(as(t, "Bearer reader-secret"), t), newNote("x")); reason(e) != "SEEN" {
		t.Error(e)
	}
}

func TestEachMessageOfAStreamIsValidated(t *testing.T) {
	r := start(t, plaintext(), echo{})
	s := r.openStream(as(t, "Bearer reader-secret"), t)
	for range 2 {
		if e := exchange(s, newNote("x")); e != nil {
			t.Fatal(e)
		}
	}
	e := exchange(s, newNote("too long a text"))
	if e == nil || e.Kind != errs.KindInvalid || len(e.Violations) != 1 || e.Violations[0].Field != "text" {
		t.Errorf("the third message was answered %+v", e)
	}
}
