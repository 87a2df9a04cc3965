package cache

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// trusting is a cache whose memory is always trusted.
func trusting[V any](t *testing.T, o Options) *Cache[V] {
	t.Helper()
	o.Local = NewTracker(nil, "test", nil)
	c := New[V](nil, ns, o)
	o.Local.until.Store(1 << 62)
	t.Cleanup(c.Close)
	return c
}

func (l *local[V]) fill(t testing.TB, id string, v V, soft time.Time, ttl time.Duration) {
	t.Helper()
	e := entry[V]{value: v}
	raw, err := l.format.encode(e, soft)
	if err != nil {
		t.Fatal(err)
	}
	l.put(id, l.begin(id), e, string(raw), ttl)
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	c := trusting[string](t, Options{LocalEntries: 320, LocalBytes: 1 << 20})
	for i := range 10_000 {
		c.local.fill(t, fmt.Sprint(i), "v", time.Time{}, time.Hour)
	}
	if n, _, _ := c.local.size(); n > 320 || n < 160 {
		t.Errorf("%d entries", n)
	}
	big := strings.Repeat("x", 10_000)
	for i := range 1000 {
		c.local.fill(t, fmt.Sprint("big", i), big, time.Time{}, time.Hour)
	}
	if _, n, _ := c.local.size(); n > 1<<20 || n < 1<<19 {
		t.Errorf("%d bytes", n)
	}
	before, _, _ := c.local.size()
	c.local.fill(t, "too big", strings.Repeat("x", 1<<15), time.Time{}, time.Hour)
	if _, ok := c.local.get("too big", time.Now); ok {
		t.Error("a value of more than its part is kept")
	}
	if after, _, _ := c.local.size(); after != before {
		t.Error("it made others go")
	}
	c.local.drop()
	if n, bytes, _ := c.local.size(); n != 0 || bytes != 0 {
		t.Errorf("%d entries, %d bytes are left", n, bytes)
	}
}

func TestAKeptValueHasItsTTLs(t *testing.T) {
	c := trusting[string](t, Options{})
	now := time.Now()
	c.local.fill(t, "k", "v", now.Add(time.Minute), time.Hour)
	for later, want := range map[time.Duration]bool{0: false, 2 * time.Minute: true} {
		e, ok := c.local.get("k", func() time.Time { return now.Add(later) })
		if !ok || (e.staleHeader != "") != want {
			t.Errorf("after %s: %t, past its soft TTL: %q", later, ok, e.staleHeader)
		}
	}
	c.o.Local.began = c.o.Local.began.Add(-59 * time.Minute)
	if _, ok := c.local.get("k", time.Now); !ok {
		t.Error("it ended too early")
	}
	c.o.Local.began = c.o.Local.began.Add(-time.Minute)
	if _, ok := c.local.get("k", time.Now); ok {
		t.Error("it outlived its TTL")
	}
	c.local.fill(t, "gone", "v", time.Time{}, -1*time.Millisecond)
	if _, ok := c.local.get("gone", time.Now); ok {
		t.Error("a key that has no TTL any more is kept")
	}
}

func TestAClosedCacheKeepsNothing(t *testing.T) {
	c := trusting[string](t, Options{})
	c.local.fill(t, "k", "v", time.Time{}, time.Hour)
	late := c.local.begin("late")
	c.Close()
	c.o.Local.until.Store(1 << 62) // other caches go on
	c.local.put("late", late, entry[string]{value: "v"}, strings.Repeat("\x00", headerSize), time.Hour)
	for _, id := range []string{"k", "late"} {
		if _, ok := c.local.get(id, time.Now); ok {
			t.Errorf("%s is read though nothing tells of its invalidation", id)
		}
	}
	if c.local.begin("k").valid {
		t.Error("it would keep more")
	}
}

func TestNoTwoCallersShareWhatCanBeChanged(t *testing.T) {
	maps := trusting[map[string]int](t, Options{})
	maps.local.fill(t, "k", map[string]int{"a": 1}, time.Time{}, time.Hour)
	for range 2 {
		got, err := maps.Get(t.Context(), "k", never[map[string]int](t))
		if err != nil || got["a"] != 1 {
			t.Fatal(got, err)
		}
		got["a"] = 2
	}
	type plain struct {
		A string
		B [2]time.Time
	}
	type pointing struct{ A *int }
	if trusting[[]int](t, Options{}).local.share || trusting[pointing](t, Options{}).local.share ||
		trusting[any](t, Options{}).local.share || !trusting[plain](t, Options{}).local.share {
		t.Error("what is shared is not what can't be changed")
	}
}
