package suitetest

import (
	"strings"
	"testing"
	"time"

	openloop "github.com/purserhq/purser/services/devstack/load"
)

// What `make load` does, small: three processes with mutual TLS, users of a portfolio product, one rate.
func TestAPortfolioProductIsServedAtASteadyRate(t *testing.T) {
	t.Parallel()
	s, err := openloop.NewTestBed(t.Context(), "small", builtPrograms(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := s.Measure(t.Context(), openloop.Plan{Rate: 40, Warmup: time.Second, Duration: 4 * time.Second, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteShares(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if r.All.Failed > 0 || r.NotSent > 0 || r.All.Sent == 0 || r.All.Sent > r.Calls {
		t.Errorf("of %d calls %d were sent, %d not, and %d failed: %v", r.Calls, r.All.Sent, r.NotSent, r.All.Failed,
			r.First)
	}
	for _, part := range []string{"auth", "wallet", "portfolio", "Postgres", "Redis"} {
		if !strings.Contains(table.String(), part) {
			t.Errorf("the share of %s is not shown", part)
		}
	}
	if r.PerCall("portfolio") == 0 || r.PerCall("Postgres") == 0 {
		t.Errorf("portfolio and Postgres took no time")
	}
}
