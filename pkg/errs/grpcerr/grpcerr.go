// Package grpcerr maps the typed errors of package errs to gRPC statuses and
// back, so that an error means the same on both sides of a call. Details
// follow AIP-193: google.rpc.ErrorInfo (domain "purser"), BadRequest for
// field violations, RetryInfo where trying again helps.
//
// An error without a kind becomes INTERNAL and says nothing of its cause.
package grpcerr

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/purserhq/purser/pkg/errs"
)

// Domain of every ErrorInfo.
const Domain = "purser"

// ToStatus returns the status that a caller sees for err; nil gives OK. A
// status that err already carries is kept as it is only when it came from
// this server's own gRPC layers; a downstream service's status reaches here
// as an *errs.Error through the client interceptors.
func ToStatus(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	e := errs.As(err)
	switch {
	case e != nil:
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		e = errs.Deadline("DEADLINE_EXCEEDED", "the call did not finish in time")
	default:
		if s, ok := status.FromError(err); ok {
			return s
		}
		e = errs.Internal(err)
	}
	return withDetails(status.New(codeOf(e.Kind), e.Message), e)
}

func withDetails(s *status.Status, e *errs.Error) *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain}}
	if len(e.Violations) > 0 {
		b := &errdetails.BadRequest{}
		for _, v := range e.Violations {
			b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Field, Description: v.Rule,
			})
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

// FromError turns the error of a gRPC call back into an *errs.Error. It
// returns nil for nil.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	if errs.As(err) != nil {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &errs.Error{Kind: kindOf(s.Code()), Message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.Reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, errs.Violation{Field: v.GetField(), Rule: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if e.Reason == "" {
		e.Reason = s.Code().String()
	}
	return e
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
