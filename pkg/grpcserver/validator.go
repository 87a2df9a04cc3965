package grpcserver

import (
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
)

// smallMessage is how many bytes a message may have for every rule that it
// breaks to be listed.
const smallMessage = 16 << 10

// validator lists every rule that a small message breaks and the first one
// only of a large one: a list of a million bad items would otherwise cost
// seconds and hundreds of megabytes, which any caller could ask for.
type validator struct{ all, first protovalidate.Validator }

func newValidator() (*validator, error) {
	all, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	first, err := protovalidate.New(protovalidate.WithFailFast())
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	return &validator{all: all, first: first}, nil
}

// Validate implements protovalidate.Validator.
func (v *validator) Validate(m proto.Message, options ...protovalidate.ValidationOption) error {
	if proto.Size(m) > smallMessage {
		return v.first.Validate(m, options...)
	}
	return v.all.Validate(m, options...)
}
