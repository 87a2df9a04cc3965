package suitetest

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/suite"
)

// soakShare of the calls that the three services can serve is made all the while.
const soakShare = 0.7

// used is what a process uses.
type used struct{ mebibytes, goroutines int }

var goroutines = regexp.MustCompile(`(?m)^go_goroutines ([0-9.e+]+)$`)

// usage is that of a process, which exports its metrics at an address.
func usage(t *testing.T, p *process, admin string) used {
	t.Helper()
	found := goroutines.FindStringSubmatch(scrape(t, admin))
	if found == nil {
		t.Fatal("no go_goroutines")
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return used{p.memory(t) >> 20, int(n)}
}

// soak are calls to the three services in turn, by users in turn.
type soak struct {
	as    []context.Context
	calls []caller

	mu     sync.Mutex
	took   []time.Duration
	failed error
}

// call makes call n, which was due at a time, and keeps how long it took from then on.
func (s *soak) call(n int, due time.Time) {
	err := s.calls[n%len(s.calls)](s.as[n/len(s.calls)%len(s.as)])
	took := time.Since(due)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, took)
	if err != nil && s.failed == nil {
		s.failed = err
	}
}

// capacity is how many calls a second are served to callers that wait for each answer.
func (s *soak) capacity() float64 {
	const callers, each = 16, 150
	begun := time.Now()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				s.call(i+n*callers, time.Now())
			}
		})
	}
	all.Wait()
	return callers * each / time.Since(begun).Seconds()
}

// steadily makes so many calls a second, whether or not those before have ended. It calls fifth after a fifth of the
// time.
func (s *soak) steadily(rate float64, lasts time.Duration, fifth func()) {
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	told := false
	for begun, sent := time.Now(), 0; time.Since(begun) < lasts; <-tick.C {
		for due := int(time.Since(begun).Seconds() * rate); sent < due; sent++ {
			at := begun.Add(time.Duration(float64(sent) / rate * float64(time.Second)))
			n := sent
			under.Go(func() { s.call(n, at) })
		}
		if !told && time.Since(begun) > lasts/5 {
			told = true
			fifth()
		}
	}
}

// Under a steady load of 70 % of what they can serve, for ten minutes at full size, the services don't grow.
func TestUnderASteadyLoadTheServicesDoNotGrow(t *testing.T) {
	unlimited := []string{"PURSER_GRPC_RATE_PER_SECOND=100000", "PURSER_GRPC_BURST=100000"}
	o := suite.Options{Extra: map[string][]string{}}
	admin := make([]string, 3)
	for i, service := range []string{"auth", "wallet", "portfolio"} {
		admin[i] = unusedAddr(t)
		o.Extra[service] = append(slices.Clone(unlimited), "PURSER_ADMIN_ADDR="+admin[i])
	}
	b := startInfrastructure(t, o)
	e, processes := startProcesses(t, b, asItIs)
	idle := make([]used, 3)
	for i, p := range processes {
		idle[i] = usage(t, p, admin[i])
	}
	s := &soak{as: make([]context.Context, users)}
	c := dial(t, e)
	for i := range s.as {
		s.as[i], _ = signIn(t, c)
		addWallet(t, s.as[i], c, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[i%2]))
	}
	for service, addr := range map[string]string{"auth": e.Auth, "wallet": e.Wallet, "portfolio": e.Portfolio} {
		conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		for _, call := range mixes()[service].calls(conn) {
			s.calls = append(s.calls, func(ctx context.Context, _ ...grpc.CallOption) error { return call(ctx) })
		}
	}
	capacity := s.capacity()
	s.took = nil
	early := make([]used, 3)
	lasts := time.Duration(testkit.Size(5, 600)) * time.Second
	s.steadily(soakShare*capacity, lasts, func() {
		for i, p := range processes {
			early[i] = usage(t, p, admin[i])
		}
	})
	if s.failed != nil {
		t.Errorf("a call failed: %v", s.failed)
	}
	slices.Sort(s.took)
	testkit.Figure(t, "%d calls in %s, %.0f a second of %.0f that were served: p50 %s, p99 %s, slowest %s",
		len(s.took), lasts, soakShare*capacity, capacity, s.took[len(s.took)/2].Round(10*time.Microsecond),
		s.took[len(s.took)*99/100].Round(10*time.Microsecond), s.took[len(s.took)-1].Round(time.Millisecond))
	for i, p := range processes {
		late := usage(t, p, admin[i])
		testkit.Figure(t, "%s: idle %d MiB, after a fifth %d MiB and %d goroutines, in the end %d MiB and %d",
			filepath.Base(p.Program), idle[i].mebibytes, early[i].mebibytes, early[i].goroutines, late.mebibytes,
			late.goroutines)
		if late.mebibytes > early[i].mebibytes+max(24, early[i].mebibytes/10) ||
			late.goroutines > early[i].goroutines+max(60, early[i].goroutines/10) {
			t.Errorf("%s has grown from %+v to %+v", p.Program, early[i], late)
		}
	}
}
