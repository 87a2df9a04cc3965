package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/load"
)

func TestEveryPlannedCallIsCounted(t *testing.T) {
	t.Parallel()
	var served [2]atomic.Int64
	refused := errors.New("refused")
	p := load.Plan{Rate: 2000, Warmup: 200 * time.Millisecond, Duration: time.Second, Seed: 1,
		Scenarios: []load.Scenario{
			{Name: "often", Weight: 9, Call: func(context.Context, int) error { served[0].Add(1); return nil }},
			{Name: "seldom", Weight: 1, Call: func(context.Context, int) error { served[1].Add(1); return refused }},
		}}
	r, err := load.Run(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	warm := p
	warm.Duration, warm.Warmup = p.Warmup, 0
	before, err := load.Run(t.Context(), warm) // the same calls as those of the warm-up alone
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range r.Scenarios {
		if n := int(served[i].Load()) - 2*before.Scenarios[i].Sent; s.Sent != n || n == 0 {
			t.Errorf("%s: %d are counted, %d were served", s.Name, s.Sent, n)
		}
	}
	if r.All.Sent != r.Scenarios[0].Sent+r.Scenarios[1].Sent || r.NotSent != 0 {
		t.Errorf("%d in all of %d and %d, %d not sent", r.All.Sent, r.Scenarios[0].Sent, r.Scenarios[1].Sent,
			r.NotSent)
	}
	if r.All.Sent < 1700 || r.All.Sent > 2300 {
		t.Errorf("%d calls in a second at 2000 a second", r.All.Sent)
	}
	if share := float64(r.Scenarios[1].Sent) / float64(r.All.Sent); share < 0.05 || share > 0.15 {
		t.Errorf("a weight of 1 in 10 is a share of %.2f", share)
	}
	if r.All.Failed != r.Scenarios[1].Sent || !errors.Is(r.First, refused) || r.Well(time.Hour) {
		t.Errorf("%d of %d failed, the first with %v", r.All.Failed, r.Scenarios[1].Sent, r.First)
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p99.9", "often", "seldom", "all", "first error: refused"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, &table)
		}
	}
}

// stalling answers at once, except that for a second it answers nobody.
type stalling struct{ sync.Mutex }

func (s *stalling) call(context.Context, int) error {
	s.Lock()
	defer s.Unlock()
	return nil
}

// stall keeps all callers waiting.
func (s *stalling) stall(d time.Duration) {
	s.Lock()
	defer s.Unlock()
	ended := time.NewTimer(d)
	<-ended.C
}

// A server that stalls for one of four seconds keeps a quarter of its users waiting. The 99th percentile has to show
// it. The control is a caller that waits for each answer before it sends the next call: in its figures one call of
// thousands is slow.
func TestAStallOfTheServerShows(t *testing.T) {
	t.Parallel()
	const stalls, lasts = time.Second, 4 * time.Second
	s := &stalling{}
	during := time.AfterFunc(lasts/4, func() { s.stall(stalls) })
	defer during.Stop()
	r, err := load.Run(t.Context(), load.Plan{Rate: 500, Duration: lasts, Seed: 1,
		Scenarios: []load.Scenario{{Name: "call", Weight: 1, Call: s.call}}})
	if err != nil {
		t.Fatal(err)
	}
	if p99 := r.All.Quantile(0.99); p99 < stalls/2 {
		t.Errorf("p99 of calls at their planned times is %s", p99)
	}
	if p90 := r.All.Quantile(0.9); p90 < stalls/4 {
		t.Errorf("p90 of calls at their planned times is %s", p90)
	}

	closed := &stalling{}
	var took []time.Duration
	during = time.AfterFunc(lasts/4, func() { closed.stall(stalls) })
	defer during.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-tick.C {
		sent := time.Now()
		_ = closed.call(t.Context(), 0)
		took = append(took, time.Since(sent))
	}
	slices.Sort(took)
	hidden := took[len(took)*99/100]
	testkit.Figure(t, "a stall of %s in %s: p99 %s at planned times, %s of a caller that waits for each answer",
		stalls, lasts, r.All.Quantile(0.99), hidden)
	if hidden >= stalls/2 {
		t.Errorf("the control: p99 of a caller that waits for each answer is %s", hidden)
	}
	if slowest := took[len(took)-1]; slowest < stalls/2 {
		t.Errorf("the control did not see the stall: its slowest call took %s", slowest)
	}
}

// A plan that the server is far behind with ends early, and what was not sent is counted.
func TestAPlanEndsWhenTheServerIsFarBehind(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	r, err := load.Run(t.Context(), load.Plan{Rate: 1000, Duration: 5 * time.Second, Backlog: 100 * time.Millisecond,
		Seed: 1, Scenarios: []load.Scenario{{Name: "slow", Weight: 1, Call: func(context.Context, int) error {
			served.Add(1)
			ends := time.NewTimer(time.Second)
			<-ends.C
			return nil
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.All.Sent != int(served.Load()) || r.All.Sent > 200 {
		t.Errorf("%d are counted, %d were served", r.All.Sent, served.Load())
	}
	if all := r.All.Sent + r.NotSent; r.NotSent == 0 || all < 4500 || all > 5500 || r.Well(time.Hour) {
		t.Errorf("%d sent, %d not", r.All.Sent, r.NotSent)
	}
}

func TestTheHighestRateIsFound(t *testing.T) {
	t.Parallel()
	for _, highest := range []float64{0.5, 3, 99, 100, 101, 1234, 98765} {
		s, tries := load.NewSearch(100, 0.05), 0
		for rate, ok := s.Next(); ok; rate, ok = s.Next() {
			s.Tell(rate <= highest)
			if tries++; tries > 40 {
				t.Fatal("it does not end")
			}
		}
		if got := s.Highest(); highest >= 1 && (got > highest || got < highest/1.06) || highest < 1 && got != 0 {
			t.Errorf("%g is found, the highest is %g", got, highest)
		}
	}
}

func TestAPlanThatCantBeCarriedOutIsRefused(t *testing.T) {
	t.Parallel()
	call := func(context.Context, int) error { return nil }
	good := load.Plan{Rate: 1, Duration: time.Second, Scenarios: []load.Scenario{{Name: "a", Weight: 1, Call: call}}}
	for name, change := range map[string]func(*load.Plan){
		"no rate":      func(p *load.Plan) { p.Rate = 0 },
		"no duration":  func(p *load.Plan) { p.Duration = 0 },
		"no scenarios": func(p *load.Plan) { p.Scenarios = nil },
		"no weight":    func(p *load.Plan) { p.Scenarios = []load.Scenario{{Name: "a", Call: call}} },
		"no call":      func(p *load.Plan) { p.Scenarios = []load.Scenario{{Name: "a", Weight: 1}} },
	} {
		p := good
		change(&p)
		if _, err := load.Run(t.Context(), p); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := load.Run(ended, good); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}
