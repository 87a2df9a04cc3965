package grpcserver

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // it registers the codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
)

// codec is gRPC's own of protobuf, but bytes that are no message are no error of it: they
// become a message that is marked, which the layers refuse. By itself gRPC sends INTERNAL
// for them before any code of ours runs, and a handler can't send another status then: so
// the log had nothing, the rate limit counted nothing, and a caller's mistake looked like
// a fault of the service.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return err
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(unreadable())
	return nil
}

// unreadable is a field of a number that protobuf reserves for its implementations, so
// that no contract has it.
func unreadable() []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 19_000, protowire.BytesType), "unreadable")
}

// checkReadable returns an error for a message that is marked by codec.
func checkReadable(v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return nil
	}
	r := m.ProtoReflect()
	if unknown := r.GetUnknown(); len(unknown) == 0 || !bytes.Equal(unknown, unreadable()) {
		return nil
	}
	return &errs.Error{Kind: errs.KindInvalid, Reason: "MESSAGE_UNREADABLE", Message: fmt.Sprintf(
		"the bytes of the request are not a %s in the encoding of protobuf", r.Descriptor().FullName())}
}
