package grpcerr_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// overTheWire encodes a status as gRPC does and reads it back as a client.
func overTheWire(t testing.TB, s *status.Status) *errs.Error {
	t.Helper()
	b, err := proto.Marshal(s.Proto())
	if err != nil {
		t.Fatalf("the status can't be sent: %v", err)
	}
	p := status.New(codes.OK, "").Proto()
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	e := errs.As(grpcerr.FromError(status.FromProto(p).Err()))
	if e == nil {
		t.Fatalf("%v came back without a kind", s)
	}
	return e
}

func TestEveryKindSurvivesTheRoundTrip(t *testing.T) {
	wantCodes := map[errs.Kind]codes.Code{
		errs.KindInvalid: codes.InvalidArgument, errs.KindNotFound: codes.NotFound,
		errs.KindAlreadyExists: codes.AlreadyExists, errs.KindConflict: codes.Aborted,
		errs.KindFailedPrecondition: codes.FailedPrecondition, errs.KindUnauthenticated: codes.Unauthenticated,
		errs.KindPermissionDenied: codes.PermissionDenied, errs.KindExhausted: codes.ResourceExhausted,
		errs.KindUnavailable: codes.Unavailable, errs.KindDeadline: codes.DeadlineExceeded,
		errs.KindCanceled: codes.Canceled,
	}
	for k := errs.KindInternal + 1; k <= errs.KindCanceled; k++ {
		t.Run(k.String(), func(t *testing.T) {
			sent := &errs.Error{
				Kind: k, Reason: "SOME_REASON", Message: "for people", RetryAfter: 1500 * time.Millisecond,
				Violations: []errs.Violation{{Field: "a.b[0]", Rule: "must be short"},
					{Field: "c", Rule: "must be set"}},
			}
			s := grpcerr.ToStatus(fmt.Errorf("in a store: %w", sent.Because(errors.New("password=hunter2"))))
			if s.Code() != wantCodes[k] {
				t.Errorf("code %s, want %s", s.Code(), wantCodes[k])
			}
			got := overTheWire(t, s)
			if got.Kind != k || got.Reason != sent.Reason || got.Message != sent.Message ||
				got.RetryAfter != sent.RetryAfter ||
				!slices.Equal(got.Violations, sent.Violations) {
				t.Errorf("came back as %+v", got)
			}
			if strings.Contains(s.String()+fmt.Sprint(s.Details()), "hunter2") {
				t.Errorf("the cause crossed the wire: %v", s)
			}
		})
	}
}

func TestAnErrorWithoutAKindBecomesInternalWithoutItsText(t *testing.T) {
	const secret = "dsn=postgres://u:hunter2@db"
	for name, err := range map[string]error{
		"a plain error":          errors.New(secret),
		"a typed internal error": errs.Internal(errors.New(secret)),
		"a typed error with the zero kind": &errs.Error{Reason: secret, Message: secret,
			Violations: []errs.Violation{{Field: secret}}},
		"a kind that doesn't exist":                 &errs.Error{Kind: 77, Message: secret},
		"an internal status":                        status.Error(codes.Internal, secret),
		"an unknown status":                         status.Error(codes.Unknown, secret),
		"a data loss status":                        status.Error(codes.DataLoss, secret),
		"a downstream internal error, handed on":    grpcerr.FromError(status.Error(codes.Internal, secret)),
		"a downstream code without a kind of ours":  grpcerr.FromError(status.Error(codes.Unimplemented, secret)),
		"a wrapped internal status":                 fmt.Errorf("call: %w", status.Error(codes.Internal, secret)),
		"a plain error wrapped with secret context": fmt.Errorf("%s: %w", secret, errors.New("boom")),
	} {
		t.Run(name, func(t *testing.T) {
			s := grpcerr.ToStatus(err)
			if s.Code() != codes.Internal || s.Message() != "internal error" {
				t.Errorf("%s %q, want Internal and nothing else", s.Code(), s.Message())
			}
			if text := fmt.Sprint(s.Proto()); strings.Contains(text, "hunter2") {
				t.Errorf("the status tells: %s", text)
			}
			if got := overTheWire(t, s); got.Reason != "INTERNAL" {
				t.Errorf("reason %q", got.Reason)
			}
		})
	}
}

func TestContextErrorsAreNotInternal(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		code   codes.Code
		kind   errs.Kind
		reason string
	}{
		"a cancelled call": {context.Canceled, codes.Canceled, errs.KindCanceled, "CANCELED"},
		"one wrapped by a store": {fmt.Errorf("query: %w", context.Canceled), codes.Canceled, errs.KindCanceled,
			"CANCELED"},
		"a call out of time": {fmt.Errorf("query: %w", context.DeadlineExceeded), codes.DeadlineExceeded,
			errs.KindDeadline, "DEADLINE_EXCEEDED"},
		"a typed error out of it": {errs.Unavailable("AWAY", "x").Because(context.DeadlineExceeded),
			codes.Unavailable, errs.KindUnavailable, "AWAY"},
		"a cancelled client call": {grpcerr.FromError(status.FromContextError(context.Canceled).Err()),
			codes.Canceled, errs.KindCanceled, "CANCELED"},
		"a client call out of one": {grpcerr.FromError(status.FromContextError(context.DeadlineExceeded).Err()),
			codes.DeadlineExceeded, errs.KindDeadline, "DEADLINE_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			s := grpcerr.ToStatus(tt.err)
			if got := overTheWire(t, s); s.Code() != tt.code || got.Kind != tt.kind || got.Reason != tt.reason {
				t.Errorf("%s, %+v", s.Code(), got)
			}
		})
	}
}

func TestAForeignStatusGetsAKindAndAReasonInOurForm(t *testing.T) {
	form := regexp.MustCompile(`^[A-Z]+(_[A-Z]+)*$`)
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		e := errs.As(grpcerr.FromError(status.Error(c, "theirs")))
		if e == nil || e.Message != "theirs" || !form.MatchString(e.Reason) {
			t.Errorf("%s came back as %+v", c, e)
		}
	}
	if e := errs.As(grpcerr.FromError(status.Error(codes.NotFound, "x"))); e.Kind != errs.KindNotFound ||
		e.Reason != "NOT_FOUND" {
		t.Errorf("NotFound came back as %+v", e)
	}
	plain := errors.New("no status")
	if err := grpcerr.FromError(plain); err != plain { //nolint:errorlint // the very same error is asked for
		t.Errorf("an error without a status came back as %v", err)
	}
	if grpcerr.FromError(nil) != nil || grpcerr.ToStatus(nil).Code() != codes.OK {
		t.Error("nil is no error")
	}
}

func TestAStatusOfOurOwnLayersKeepsItsCodeWithoutWhatWrapsIt(t *testing.T) {
	s := grpcerr.ToStatus(fmt.Errorf("host 10.0.0.3: %w",
		status.Error(codes.Unimplemented, "method Frob not implemented")))
	if s.Code() != codes.Unimplemented || s.Message() != "method Frob not implemented" {
		t.Errorf("%s %q", s.Code(), s.Message())
	}
}

func TestATextThatIsNotUTF8KeepsTheDetails(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "text"))
		sent := errs.Invalid("field", text).After(time.Second)
		sent.Reason = "KEPT"
		got := overTheWire(t, grpcerr.ToStatus(sent))
		if got.Reason != "KEPT" || len(got.Violations) != 1 || got.RetryAfter != time.Second {
			rt.Fatalf("%q came back as %+v", text, got)
		}
	})
}

func TestTheViolationsOfAStatusAreBounded(t *testing.T) {
	e := errs.Invalid("items", "too many")
	for range 100_000 {
		e.Violations = append(e.Violations, errs.Violation{Field: "items", Rule: "must be a UUID"})
	}
	if size := proto.Size(grpcerr.ToStatus(e).Proto()); size > 8<<10 {
		t.Errorf("a status of %d bytes does not fit into trailers", size)
	}
}

// Clients in C++, Python, Ruby and PHP refuse trailers from 8 KiB on, and with them the error that they were to tell.
func TestAStatusFitsIntoTrailersWhateverWasGiven(t *testing.T) {
	for name, text := range map[string]string{
		"ASCII":             strings.Repeat("x", 30<<10),
		"in three bytes":    strings.Repeat("漢", 10<<10),
		"percent signs":     strings.Repeat("%", 30<<10),
		"no characters":     strings.Repeat("\xff", 30<<10),
		"invisible letters": strings.Repeat("\U0010ffff", 64),
	} {
		t.Run(name, func(t *testing.T) {
			given := errs.Given(text[:len(text)/2] + " " + text[len(text)/2:])
			for _, v := range []errs.Violation{{Field: "items", Rule: "must be a UUID, " + given},
				{Field: `attributes["` + text + `"]`, Rule: "must have at most 32 characters"},
				{Field: "items", Rule: text}} {
				var all []errs.Violation
				for range 20 {
					all = append(all, v)
				}
				s := grpcerr.ToStatus(errs.Violated(all).With("permission", "admin:system").After(time.Second))
				details, err := proto.Marshal(s.Proto())
				if err != nil {
					t.Fatal(err)
				}
				sent := base64.RawStdEncoding.EncodedLen(len(details))
				for _, c := range []byte(s.Message()) {
					if sent++; c < ' ' || c > '~' || c == '%' {
						sent += 2
					}
				}
				if sent > 7900 {
					t.Errorf("%.60s: %d bytes in trailers", v.Rule, sent)
				}
				e := overTheWire(t, s)
				if len(e.Violations) == 0 || e.RetryAfter != time.Second ||
					!strings.HasPrefix(e.Message, v.Field[:5]) {
					t.Errorf("came back as %.200v", e)
				}
			}
		})
	}
	ten := errs.Violated(slices.Repeat([]errs.Violation{{Field: "wallet_id",
		Rule: "must be a UUID, for example \"0199ed3c-5a2e-7c4e-9d0f-3b1f4c5d6e7f\", " + errs.Given("abc")}}, 10))
	if e := overTheWire(t, grpcerr.ToStatus(ten)); e.Message != ten.Message || len(e.Violations) != 10 {
		t.Errorf("of ten usual ones %d came: %s", len(e.Violations), e.Message)
	}
}
