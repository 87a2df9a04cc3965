package lock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
)

func BenchmarkTryAndReleaseUnfenced(b *testing.B) {
	tryAndRelease(b, 1.2, Options{Unfenced: true})
}

func BenchmarkTryAndReleaseFenced(b *testing.B) {
	tryAndRelease(b, 1.8, Options{})
}

// tryAndRelease is measured against SET NX and DEL on a plain client.
func tryAndRelease(b *testing.B, goal float64, o Options) {
	s := testkit.Redis(b)
	l := locker(b, s, o)
	plain, err := redis.ParseURL(s.URL())
	if err != nil {
		b.Fatal(err)
	}
	raw := redis.NewClient(plain)
	b.Cleanup(func() { _ = raw.Close() })
	ctx := b.Context()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	versus.Run(b, versus.Comparison{Goal: goal, Raw: func() {
		must(raw.SetNX(ctx, "raw", "token", time.Minute).Err())
		must(raw.Del(ctx, "raw").Err())
	}, Ours: func() {
		g, err := l.Try(ctx, "ours", time.Minute)
		must(err)
		must(g.Release())
	}})
}

// BenchmarkWokenWaiter is the time from a release to the waiter's having the
// lock.
func BenchmarkWokenWaiter(b *testing.B) {
	s := testkit.Redis(b)
	l := locker(b, s, Options{Subscriber: client(b,
		redisx.Options{URL: s.URL(), Timeout: patience, Subscriber: true})})
	l.maxPollInterval = time.Hour // nothing but the release wakes it
	took := make([]float64, 0, b.N)
	for i := range b.N {
		took = append(took, wake(b, l, fmt.Sprint(i)).Seconds()*1000)
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
	b.ReportMetric(10, "goal-ms")
}
