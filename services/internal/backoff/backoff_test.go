package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/purserhq/purser/services/internal/backoff"
)

func TestPausesAreTripledUpToALimit(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 30 * time.Second, 3: 90 * time.Second, 6: 2430 * time.Second,
		7: time.Hour, 8: time.Hour, math.MaxInt: time.Hour,
	} {
		if got := backoff.Tripled(attempt, 10*time.Second, time.Hour); got != want {
			t.Errorf("after attempt %d the pause is %s, want %s", attempt, got, want)
		}
	}
}
