package grpcserver

import (
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
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
