package cache

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// Codec turns values into bytes and back. Unmarshal is given a pointer to a
// value of the cache's type.
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

// Proto encodes caches of pointers to generated messages.
type Proto struct{}

// Marshal is proto.Marshal.
func (Proto) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("cache: %T is not a protobuf message", v)
	}
	return proto.Marshal(m)
}

// Unmarshal makes a message and points v at it.
func (Proto) Unmarshal(b []byte, v any) error {
	target := reflect.ValueOf(v).Elem()
	if target.Kind() != reflect.Pointer {
		return fmt.Errorf("cache: %s is not a pointer to a protobuf message", target.Type())
	}
	fresh := reflect.New(target.Type().Elem())
	m, ok := fresh.Interface().(proto.Message)
	if !ok {
		return fmt.Errorf("cache: %s is not a protobuf message", target.Type())
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return err
	}
	target.Set(fresh)
	return nil
}

// An entry in Redis is a kind, the time in Unix milliseconds after which to
// refresh it (0 for never) as 8 bytes, and the encoded value.
const (
	kindValue  = 'v'
	kindAbsent = 'n'
	headerSize = 9
)

func (c *Cache[V]) encode(e entry[V]) ([]byte, error) {
	header := make([]byte, headerSize)
	if e.absent {
		header[0] = kindAbsent
		return header, nil
	}
	header[0] = kindValue
	if c.o.SoftTTL > 0 {
		binary.BigEndian.PutUint64(header[1:], uint64(c.o.Now().Add(c.o.SoftTTL).UnixMilli()))
	}
	body, err := c.o.Codec.Marshal(e.value)
	return slices.Concat(header, body), err
}

// decode removes and counts an entry that it can't read.
func (c *Cache[V]) decode(ctx context.Context, b *budget, key string, raw []byte) (entry[V], bool) {
	var e entry[V]
	switch {
	case len(raw) == headerSize && raw[0] == kindAbsent:
		e.absent = true
		return e, true
	case len(raw) >= headerSize && raw[0] == kindValue && c.o.Codec.Unmarshal(raw[headerSize:], &e.value) == nil:
		soft := int64(binary.BigEndian.Uint64(raw[1:]))
		e.stale = soft > 0 && time.UnixMilli(soft).Before(c.o.Now())
		return e, true
	}
	c.undecodable.Add(ctx, 1, c.labels)
	_ = b.spend(ctx, func(ctx context.Context) error { return c.redis.Del(ctx, c.ns.key(key)).Err() })
	return entry[V]{}, false
}
