package cache

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// noise is what a busy machine may add to a wait that is bounded by the budget,
// where real time is measured. The bound itself is tested on a virtual clock.
const noise = 5 * time.Second

// timed is when a read began, how long it took, and whether it hit.
type timed struct {
	at   time.Time
	took time.Duration
	hit  bool
}

// hammer has callers read a hundred keys, a few times each, every 10 ms, not
// all in the same moment.
func hammer(t *testing.T, c *Cache[string], callers, reads int, during func()) []timed {
	var mu sync.Mutex
	var all []timed
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			mine := make([]timed, 0, reads)
			_ = deadline.Pause(t.Context(), time.Duration(n)*10*time.Millisecond/time.Duration(callers))
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := range reads {
				key := fmt.Sprint((n + i) % 100)
				r := timed{time.Now(), 0, true}
				got, err := c.Get(t.Context(), key,
					func(context.Context) (string, error) { r.hit = false; return "v " + key, nil })
				r.took = time.Since(r.at)
				if got != "v "+key || err != nil {
					t.Error(got, err)
				}
				mine = append(mine, r)
				<-tick.C
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	during()
	wg.Wait()
	return all
}

func quantiles(reads []timed) (p50, p99, slowest time.Duration) {
	slices.SortFunc(reads, func(a, b timed) int { return int(a.took - b.took) })
	n := len(reads)
	return reads[n/2].took, reads[n*99/100].took, reads[n-1].took
}

func TestWithRedisAwayAReadCostsItsBudgetAtMost(t *testing.T) {
	for name, fault := range map[string]func(*redisserver.Server){
		"killed": (*redisserver.Server).Kill,
		"paused": (*redisserver.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			s := testkit.Redis(t)
			var said testkit.LogBuffer
			c := open[string](t, s, Options{Budget: redisx.Budget, Log: slog.New(slog.NewTextHandler(&said, nil))})
			var away time.Time
			reads := hammer(t, c, 64, testkit.Size(70, 1000), func() {
				_ = deadline.Pause(t.Context(), 100*time.Millisecond)
				away = time.Now()
				fault(s)
			})
			s.Resume()
			during := slices.DeleteFunc(slices.Clone(reads), func(r timed) bool { return r.at.Before(away) })
			open := slices.DeleteFunc(slices.Clone(reads),
				func(r timed) bool { return r.at.Before(away.Add(200 * time.Millisecond)) })
			if len(open) == 0 {
				t.Fatal("no read came after the breaker had opened")
			}
			_, _, slowest := quantiles(during)
			p50, p99, slowest2 := quantiles(open)
			testkit.Figure(t, "redis %s under 64 callers: %d reads, %s at most; once the breaker was open p50 %s, "+
				"p99 %s, max %s", name, len(during), slowest, p50, p99, slowest2)
			if slowest > redisx.Budget+noise || p50 > redisx.Budget {
				t.Errorf("a read took %s, half of them %s", slowest, p50)
			}
			if !strings.Contains(said.String(), "reading from the source") {
				t.Errorf("the log says nothing:\n%s", said.String())
			}
		})
	}
}

func TestAfterAPauseThereAreHitsAgainWithinASecond(t *testing.T) {
	s := testkit.Redis(t)
	var said testkit.LogBuffer
	c := open[string](t, s, Options{Budget: redisx.Budget, Log: slog.New(slog.NewTextHandler(&said, nil))})
	warm := open[string](t, s, Options{})
	for i := range 100 {
		get(t, warm, fmt.Sprint(i), value(fmt.Sprint("v ", i)), fmt.Sprint("v ", i))
	}
	settle(t, warm)
	var back time.Time
	reads := hammer(t, c, 16, testkit.Size(220, 500), func() {
		s.Pause()
		_ = deadline.Pause(t.Context(), time.Second)
		back = time.Now()
		s.Resume()
	})
	first := time.Hour
	for _, r := range reads {
		if r.hit && r.at.After(back) {
			first = min(first, r.at.Sub(back))
		}
	}
	testkit.Figure(t, "hits again %s after SIGCONT", first.Round(time.Millisecond))
	if first > time.Second+noise {
		t.Errorf("no hit until %s after SIGCONT", first)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		get(t, c, "1", value("v 1"), "v 1")
		return strings.Contains(said.String(), "answers again")
	})
	// On a busy machine Redis may miss the budget again, which is another outage.
	before, _, _ := strings.Cut(said.String(), "answers again")
	if n := strings.Count(before, "\n"); n != 1 && first < time.Second {
		t.Errorf("%d lines before the end of one outage:\n%s", n, said.String())
	}
}

func TestAFaultyConnectionNeverGivesAnErrorNorAWrongValue(t *testing.T) {
	long := strings.Repeat("a long value ", 500)
	for name, fault := range map[string]func(*faultproxy.Proxy){
		"200 ms late":   func(p *faultproxy.Proxy) { p.ToClient(faultproxy.Fault{Latency: 200 * time.Millisecond}) },
		"blackhole":     func(p *faultproxy.Proxy) { p.ToServer(faultproxy.Fault{Blackhole: true}) },
		"silent":        func(p *faultproxy.Proxy) { p.ToClient(faultproxy.Fault{Blackhole: true}) },
		"cut mid-reply": func(p *faultproxy.Proxy) { p.ToClient(faultproxy.Fault{CutAfter: 1000}) },
		"reset":         func(p *faultproxy.Proxy) { p.ToServer(faultproxy.Fault{Reset: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := testkit.Redis(t)
			p := testkit.Proxy(t, fmt.Sprintf("127.0.0.1:%d", s.Port()))
			direct := open[string](t, s, Options{})
			keys := []string{"0", "1", "2", "3"}
			load := func(_ context.Context, keys []string) (map[string]string, error) {
				out := map[string]string{}
				for _, key := range keys {
					out[key] = key + long
				}
				return out, nil
			}
			if _, err := direct.GetMany(t.Context(), keys[:2], load); err != nil {
				t.Fatal(err)
			}
			c := New[string](dial(t, p.Rewrite(s.URL()), redisx.Budget), ns, Options{})
			t.Cleanup(c.Close)
			fastest, slowest := time.Hour, time.Duration(0)
			for n := range testkit.Size(30, 500) {
				fault(p)
				begin := time.Now()
				if n%2 == 0 {
					key := keys[n/2%len(keys)]
					get(t, c, key, value(key+long), key+long)
				} else {
					got, err := c.GetMany(t.Context(), keys, load)
					for _, key := range keys {
						if got[key] != key+long || err != nil {
							t.Fatalf("%d bytes of %s: %v", len(got[key]), key, err)
						}
					}
				}
				fastest, slowest = min(fastest, time.Since(begin)), max(slowest, time.Since(begin))
			}
			testkit.Figure(t, "connection %s: a read took %s at most", name, slowest.Round(time.Millisecond))
			if fastest > redisx.Budget || slowest > redisx.Budget+noise {
				t.Errorf("a read took %s at least, %s at most", fastest, slowest)
			}
		})
	}
}

// TestWithoutABudgetAReadWaitsForTheConnection is the control of the test above.
func TestWithoutABudgetAReadWaitsForTheConnection(t *testing.T) {
	s := testkit.Redis(t)
	p := testkit.Proxy(t, fmt.Sprintf("127.0.0.1:%d", s.Port()))
	c := New[string](dial(t, p.Rewrite(s.URL()), patience), ns, Options{Budget: patience})
	get(t, c, "k", value("v"), "v")
	p.ToClient(faultproxy.Fault{Latency: 200 * time.Millisecond})
	begin := time.Now()
	get(t, c, "k", value("v"), "v")
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("a read took %s", took)
	}
}
