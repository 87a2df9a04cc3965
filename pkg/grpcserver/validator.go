package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
)

// maxListedMessage is the largest message, in bytes, of which all violations are
// listed.
const maxListedMessage = 16 << 10

// validator lists all violations of a small message, and only the first of a
// large one: to list those of a million invalid items takes seconds and hundreds
// of megabytes, which any caller could cause.
type validator struct{ all, failFast protovalidate.Validator }

func newValidator() (*validator, error) {
	all, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	failFast, err := protovalidate.New(protovalidate.WithFailFast())
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	return &validator{all: all, failFast: failFast}, nil
}

// Validate implements protovalidate.Validator.
func (v *validator) Validate(m proto.Message, options ...protovalidate.ValidationOption) error {
	if proto.Size(m) > maxListedMessage {
		return v.failFast.Validate(m, options...)
	}
	return v.all.Validate(m, options...)
}

// checks are what a message has to pass: the rules of its contract and, if set, the
// service's own; and what a caller has to pass beside the access rules, if set.
type checks struct {
	validator *validator
	own       atomic.Pointer[func(proto.Message) error]
	caller    atomic.Pointer[func(ctx context.Context, fullMethod string) error]
}

// check returns errs.Invalid with all violations of a message, of a large one with
// the first.
func (c *checks) check(m proto.Message) error {
	found, err := violations(c.validator.Validate(m))
	if err != nil {
		return err
	}
	if own := c.own.Load(); own != nil && (len(found) == 0 || proto.Size(m) <= maxListedMessage) {
		err := (*own)(m)
		if e := errs.As(err); err != nil && (e == nil || e.Kind != errs.KindInvalid) {
			return err
		} else if e != nil {
			found = merge(found, e.Violations)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return errs.Violated(found)
}

// merge adds the service's own violations to those of the contract. Of a field that
// has both its own is kept: it knows the settings, and says how to mend it.
func merge(found, own []errs.Violation) []errs.Violation {
	at := make(map[string]int, len(found))
	for i, v := range found {
		at[v.Field] = i
	}
	for _, v := range own {
		if i, ok := at[v.Field]; ok {
			found[i] = v
		} else {
			found = append(found, v)
		}
	}
	return found
}

// violations returns those in the error of the validator, and other errors as they
// are. Those that are only counted have no text.
func violations(err error) ([]errs.Violation, error) {
	var ve *protovalidate.ValidationError
	if err == nil || !errors.As(err, &ve) {
		return nil, err
	}
	all := make([]errs.Violation, len(ve.Violations))
	for i, v := range ve.Violations {
		all[i].Field = protovalidate.FieldPathString(v.Proto.GetField())
		if i < errs.MaxViolations {
			all[i].Rule = violationText(v)
		}
	}
	return all, nil
}
