package cache

import (
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Codec encodes values. Unmarshal gets a pointer to a zero value of the cache's
// type.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(b []byte, v any) error
}

// JSON encodes by encoding/json.
type JSON struct{}

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is json.Unmarshal.
func (JSON) Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// Proto encodes caches of pointers to generated messages, such as
// Cache[*walletv1.Wallet]. A nil one is read back as an empty message.
type Proto struct{}

// Marshal is proto.Marshal.
func (Proto) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("cache: %T is not a protobuf message", v)
	}
	return proto.Marshal(m)
}

// Unmarshal decodes into a new message and sets v to it.
func (Proto) Unmarshal(b []byte, v any) error {
	target := reflect.ValueOf(v).Elem()
	m, ok := target.Interface().(proto.Message)
	if !ok {
		return fmt.Errorf("cache: %s is not a protobuf message", target.Type())
	}
	fresh := m.ProtoReflect().New().Interface() // of a nil message too
	if err := proto.Unmarshal(b, fresh); err != nil {
		return err
	}
	target.Set(reflect.ValueOf(fresh))
	return nil
}
