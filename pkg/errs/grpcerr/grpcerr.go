// Package grpcerr converts the typed errors of package errs to gRPC statuses and
// back, so that an error means the same on both sides of a call. The details
// follow AIP-193: google.rpc.ErrorInfo (domain "purser", with the metadata),
// BadRequest for field violations, RetryInfo for when to retry.
//
// An error without a kind becomes INTERNAL, without its text.
package grpcerr

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/purserhq/purser/pkg/errs"
)

// Domain is that of every ErrorInfo.
const Domain = "purser"

// A status is sent in HTTP/2 trailers, which many clients and proxies limit to 8 KiB,
// and it has what a caller gave. So there are bounds, in bytes as they are sent: of
// its message, which is sent a second time with the details, of the name of a field,
// which may have the key of a map, and of all field violations together.
const (
	maxMessage    = 2 << 10
	maxField      = 200
	maxViolations = 32
	maxViolated   = 3 << 9
)

// ToStatus returns the status that a caller sees for err; OK for nil. A gRPC
// status within err is kept, without the errors that wrap it, unless its code is
// UNKNOWN, INTERNAL or DATA_LOSS. Such a status comes from this server's own gRPC
// code; that of another service arrives as an *errs.Error, see FromError.
func ToStatus(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	e := errs.As(err)
	switch {
	case e != nil:
	case errors.Is(err, context.Canceled):
		e = &errs.Error{Kind: errs.KindCanceled, Reason: "CANCELED", Message: "the call was cancelled"}
	case errors.Is(err, context.DeadlineExceeded):
		e = errs.Deadline("DEADLINE_EXCEEDED", "the call did not finish in time")
	default:
		if s := statusOf(err); s != nil && !unclassified(s.Code()) {
			return s
		}
	}
	if e == nil || codeOf(e.Kind) == codes.Internal {
		e = errs.Internal(err) // its text is not shown to the caller
	}
	return withDetails(status.New(codeOf(e.Kind), shortened(valid(e.Message), maxMessage)), e)
}

// statusOf returns the status in err's chain, nil when there is none.
func statusOf(err error) *status.Status {
	var c interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &c) {
		return nil
	}
	return c.GRPCStatus()
}

// unclassified reports whether a code says nothing of what went wrong.
func unclassified(c codes.Code) bool {
	return c == codes.OK || c == codes.Unknown || c == codes.Internal || c == codes.DataLoss
}

// valid returns s as valid UTF-8; with another text a status can't be encoded and
// loses all its details.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// shortened returns s cut so that it is sent in this many bytes: in a trailer each
// byte that is no printable ASCII, and each percent sign, takes three (gRPC over
// HTTP/2, "Percent-Encoded").
func shortened(s string, limit int) string {
	const cut, cutSize = "…", 9
	sent, fits := 0, 0
	for i := range len(s) {
		if utf8.RuneStart(s[i]) && sent <= limit-cutSize {
			fits = i
		}
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			sent += 2
		}
		if sent++; sent > limit {
			return s[:fits] + cut
		}
	}
	return s
}

func validAll(metadata map[string]string) map[string]string {
	if len(metadata) == 0 {
		return nil
	}
	out := make(map[string]string, len(metadata))
	for name, value := range metadata {
		out[valid(name)] = valid(value)
	}
	return out
}

func withDetails(s *status.Status, e *errs.Error) *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: valid(e.Reason), Domain: Domain,
		Metadata: validAll(e.Metadata)}}
	if len(e.Violations) > 0 {
		b, left := &errdetails.BadRequest{}, maxViolated
		for _, v := range e.Violations[:min(len(e.Violations), maxViolations)] {
			field := shortened(valid(v.Field), maxField)
			rule := shortened(valid(v.Rule), maxViolated-maxField)
			if left -= len(field) + len(rule); left < 0 {
				break
			}
			b.FieldViolations = append(b.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: field, Description: rule})
		}
		details = append(details, b)
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	out, err := s.WithDetails(details...)
	if err != nil {
		return s
	}
	return out
}

// FromError converts the error of a gRPC call back into an *errs.Error. It
// returns nil for nil, and err itself when it is no status.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	if errs.As(err) != nil {
		return err
	}
	s, ok := answered(err)
	if !ok {
		return err
	}
	e := &errs.Error{Kind: kindOf(s.Code()), Message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, errs.Violation{Field: v.GetField(), Rule: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if e.Reason == "" {
		e.Reason = upperSnake(s.Code().String())
	}
	return e
}

// answered returns the status that a service answered. status.FromError puts the text
// of what wraps it in place of its message: gRPC's client wraps the last answer when
// it repeats a call no more.
func answered(err error) (*status.Status, bool) {
	var answer interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answer) && answer.GRPCStatus() != nil {
		return answer.GRPCStatus(), true
	}
	return status.FromError(err)
}

// upperSnake converts a code's Go name into the form of a reason, such as
// NotFound into NOT_FOUND.
func upperSnake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

func codeOf(k errs.Kind) codes.Code {
	for _, p := range pairs() {
		if p.kind == k {
			return p.code
		}
	}
	return codes.Internal
}

func kindOf(c codes.Code) errs.Kind {
	for _, p := range pairs() {
		if p.code == c {
			return p.kind
		}
	}
	return errs.KindInternal
}

type pair struct {
	kind errs.Kind
	code codes.Code
}

func pairs() [12]pair {
	return [...]pair{
		{errs.KindInternal, codes.Internal},
		{errs.KindInvalid, codes.InvalidArgument},
		{errs.KindNotFound, codes.NotFound},
		{errs.KindAlreadyExists, codes.AlreadyExists},
		{errs.KindConflict, codes.Aborted},
		{errs.KindFailedPrecondition, codes.FailedPrecondition},
		{errs.KindUnauthenticated, codes.Unauthenticated},
		{errs.KindPermissionDenied, codes.PermissionDenied},
		{errs.KindExhausted, codes.ResourceExhausted},
		{errs.KindUnavailable, codes.Unavailable},
		{errs.KindDeadline, codes.DeadlineExceeded},
		{errs.KindCanceled, codes.Canceled},
	}
}
