package cache

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"slices"
	"time"
)

// An entry in Redis is a CRC-32 checksum of what follows, a kind, the soft expiry
// in Unix milliseconds (0 for none), and the encoded value. The checksum includes
// the name of the value's type, so that a namespace used for two types gives
// misses instead of values of the wrong type.
const (
	kindValue  = 'v'
	kindAbsent = 'n'
	kindAt     = 4
	softAt     = kindAt + 1
	headerSize = softAt + 8
)

// entry is a decoded cached value, or the absence of one.
type entry[V any] struct {
	value       V
	absent      bool
	staleHeader string // the header of a value past its soft TTL; "" otherwise
}

func (e entry[V]) result() (V, error) {
	if e.absent {
		return e.value, ErrNotFound
	}
	return e.value, nil
}

// format turns entries into bytes and back.
type format[V any] struct {
	codec Codec
	seed  uint32
}

func newFormat[V any](codec Codec) format[V] {
	return format[V]{codec, crc32.ChecksumIEEE([]byte(reflect.TypeFor[V]().String()))}
}

func (f format[V]) checksum(raw []byte) uint32 {
	return crc32.Update(f.seed, crc32.IEEETable, raw[kindAt:])
}

// encode encodes e with the soft expiry, the zero time for none.
func (f format[V]) encode(e entry[V], soft time.Time) (raw []byte, err error) {
	raw = make([]byte, headerSize)
	raw[kindAt] = kindAbsent
	if !e.absent {
		body, err := guarded(func() ([]byte, error) { return f.codec.Marshal(e.value) })
		if err != nil {
			return nil, err
		}
		raw = slices.Concat(raw, body)
		raw[kindAt] = kindValue
		if !soft.IsZero() {
			binary.BigEndian.PutUint64(raw[softAt:], uint64(soft.UnixMilli()))
		}
	}
	binary.BigEndian.PutUint32(raw, f.checksum(raw))
	return raw, nil
}

// decode decodes an entry; ok is false when encode has not written it.
func (f format[V]) decode(text string, now time.Time) (e entry[V], ok bool) {
	raw := []byte(text)
	if len(raw) < headerSize || binary.BigEndian.Uint32(raw) != f.checksum(raw) {
		return e, false
	}
	switch raw[kindAt] {
	case kindAbsent:
		e.absent = true
		return e, true
	case kindValue:
		if soft := softExpiry(text); soft > 0 && soft < now.UnixMilli() {
			e.staleHeader = text[:headerSize]
		}
		_, err := guarded(func() (struct{}, error) {
			return struct{}{},
				f.codec.Unmarshal(raw[headerSize:], &e.value)
		})
		return e, err == nil
	}
	return e, false
}

// softExpiry is in Unix milliseconds; 0 for none.
func softExpiry(text string) int64 {
	return int64(binary.BigEndian.Uint64([]byte(text[softAt:headerSize])))
}
