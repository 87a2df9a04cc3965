package cache

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/redisx"
)

// FuzzDecode checks that what is decoded is what was encoded, byte for byte.
func FuzzDecode(f *testing.F) {
	format := newFormat[string](text{})
	for _, e := range []entry[string]{{value: "v"}, {}, {absent: true}} {
		for _, soft := range []time.Time{{}, time.Unix(1, 0), time.Unix(1<<40, 0)} {
			raw, err := format.encode(e, soft)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Add([]byte(strings.Repeat("x", headerSize)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok := format.decode(string(raw), time.Unix(100, 0))
		if !ok {
			return
		}
		var soft time.Time
		if ms := int64(binary.BigEndian.Uint64(raw[softAt:])); ms != 0 {
			soft = time.UnixMilli(ms)
		}
		again, err := format.encode(e, soft)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("%q was decoded, and is encoded as %q: %v", raw, again, err)
		}
	})
}

func TestAnEntryWithAWrongByteOrOfAnotherTypeIsNotDecoded(t *testing.T) {
	format := newFormat[string](text{})
	raw, err := format.encode(entry[string]{value: "a value"}, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			wrong := []byte(string(raw))
			wrong[i] ^= 1 << bit
			if e, ok := format.decode(string(wrong), time.Unix(0, 0)); ok {
				t.Errorf("byte %d, bit %d: %v", i, bit, e)
			}
		}
		if e, ok := format.decode(string(raw[:i]), time.Unix(0, 0)); ok {
			t.Errorf("%d bytes of it: %v", i, e)
		}
	}
	type other string
	if e, ok := newFormat[other](text{}).decode(string(raw), time.Unix(0, 0)); ok {
		t.Error("as another type:", e)
	}
}

// tag is what a Cluster hashes of a key.
func tag(key string) string {
	_, rest, opens := strings.Cut(key, "{")
	inside, _, closes := strings.Cut(rest, "}")
	if !opens || !closes || inside == "" {
		return key
	}
	return inside
}

func FuzzKeys(f *testing.F) {
	f.Add("wallet", "price", 1, "id", "wallet", "price", 1, "id}")
	f.Add("a:b", "c", 0, "", "a", "b:c", 0, "%")
	f.Add("a", "b:v1:{x}", 1, "x", "a", "b", 1, "x}:v1:{x")
	f.Add("{", "}", -1, "%7D", "{}", "", -1, "}")
	f.Add("", "", 0, "x}:lease", "", "", 0, "x")
	f.Fuzz(func(t *testing.T, s1, e1 string, v1 int, id1, s2, e2 string, v2 int, id2 string) {
		one, two := Namespace{s1, e1, v1}, Namespace{s2, e2, v2}
		all := map[string]bool{}
		for _, k := range append(beside(redisx.Key(one.prefix(), id1)), beside(redisx.Key(two.prefix(), id2))...) {
			all[k] = true
			if want := tag(redisx.Key(one.prefix(), id1)); len(all) <= 3 && tag(k) != want {
				t.Errorf("the parts of %q are hashed apart: %q, %q", id1, want, tag(k))
			}
		}
		want := 6
		if one == two && id1 == id2 {
			want = 3
		}
		if len(all) != want {
			t.Errorf("%v %q and %v %q have keys in common", one, id1, two, id2)
		}
	})
}

// nonsense is any reply that a server may give.
func nonsense(t *rapid.T) (any, error) {
	switch rapid.IntRange(0, 12).Draw(t, "kind") {
	case 0:
		return nil, redis.Nil
	case 1:
		return nil, errors.New("WRONGTYPE")
	case 2:
		return nil, redisx.ErrUnavailable
	case 3:
		return rapid.String().Draw(t, "text"), nil
	case 4:
		return []any{int64(1), nil, "x"}, nil
	case 5:
		return map[any]any{"x": 1}, nil
	case 6:
		return rapid.Float64().Draw(t, "float"), nil
	case 7:
		return rapid.Bool().Draw(t, "bool"), nil
	case 8:
		return nil, nil //nolint:nilnil // a reply of nothing at all
	case 9:
		return nil, errors.New("NOSCRIPT")
	default:
		return rapid.Int64Range(-2, 5).Draw(t, "number"), nil
	}
}

func TestNoReplyOfRedisIsAnErrorOrAPanic(t *testing.T) {
	var rt *rapid.T
	client := pretend{
		func() time.Duration { return 0 },
		func([]any) (any, error) { return nonsense(rt) },
	}.client(t)
	rapid.Check(t, func(r *rapid.T) {
		rt = r
		c := New[string](client, ns, Options{LoadTimeout: 5 * time.Millisecond, Codec: text{}})
		if got, err := c.Get(t.Context(), "k", value("v")); got != "v" || err != nil {
			r.Fatal(got, err)
		}
		settle(t, c) // rapid is for one goroutine at a time
		got, err := c.GetMany(t.Context(), []string{"k", "l"}, echo)
		if got["k"] != "v k" || got["l"] != "v l" || err != nil {
			r.Fatal(got, err)
		}
		_ = c.Invalidate(t.Context(), "k")
		_ = c.Write(t.Context(), []string{"k"}, func() error { return nil })
		once := NewSingleUse[string](client, ns, Options{Codec: text{}})
		_ = once.Put(t.Context(), "k", "v", time.Minute)
		if _, ok, err := once.Take(t.Context(), "k"); ok && err != nil {
			r.Fatal(err)
		}
	})
}
