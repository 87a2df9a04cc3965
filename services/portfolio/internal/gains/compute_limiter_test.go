package gains

import (
	"context"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// slowSource is a source whose answers wait until they may come. It counts how many are under way.
type slowSource struct {
	may      chan struct{}
	mu       sync.Mutex
	now, max map[uuid.UUID]int // of uuid.Nil: in all
}

func (s *slowSource) Movements(ctx context.Context, owner uuid.UUID) (Moved, error) {
	count := func(by int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, of := range []uuid.UUID{owner, uuid.Nil} {
			s.now[of] += by
			s.max[of] = max(s.max[of], s.now[of])
		}
	}
	count(1)
	defer count(-1)
	select {
	case <-s.may:
		return Moved{Movements: []Movement{{Wallet: "w", Token: "t", Kind: Transfer, In: true, Amount: big.NewInt(1),
			Hash: "0x1", Time: on(2026, 1, 1)}}}, nil
	case <-ctx.Done():
		return Moved{}, ctx.Err()
	}
}

func (s *slowSource) PriceHours(context.Context, string, time.Time, time.Time) (map[int64]Price, error) {
	return map[int64]Price{}, nil
}

func (s *slowSource) Now(context.Context, []string) (map[string]valuation.Price, error) {
	return map[string]valuation.Price{}, nil
}

// noRates knows no rate.
type noRates struct{}

func (noRates) Known(_ context.Context, _ string, times ...time.Time) ([]currency.Rate, error) {
	return make([]currency.Rate, len(times)), nil
}

func (noRates) Now(context.Context, string) (currency.Rate, error) { return currency.Rate{}, nil }

func (s *slowSource) waiting(owner uuid.UUID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[owner]
}

// Calls of one owner are computed one after the other, and few in all: what a flood of calls holds in memory is
// bounded. One that gives up meanwhile leaves its place to others.
func TestLotsAreComputedInTurns(t *testing.T) {
	src := &slowSource{may: make(chan struct{}), now: map[uuid.UUID]int{}, max: map[uuid.UUID]int{}}
	s := NewService(src, nil, noRates{}, nil, time.Now)
	read := func(ctx context.Context, owner uuid.UUID) error {
		_, err := s.Read(ctx, portfolio.Portfolio{Owner: owner, Default: true}, Options{
			Rules: Rules{Method: lots.FIFO}, Currency: "USD"})
		return err
	}
	one, others := uuid.New(), []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := read(t.Context(), one); err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, time.Minute, func() bool { return src.waiting(one) == 1 })
	for _, other := range others {
		all.Go(func() {
			if err := read(t.Context(), other); err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, time.Minute, func() bool { return src.waiting(uuid.Nil) == maxComputing })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := read(ended, one); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that gave up ended with %v", err)
	}
	close(src.may)
	all.Wait()
	if src.max[one] != 1 || src.max[uuid.Nil] != maxComputing {
		t.Errorf("%d of one owner at once, %d in all", src.max[one], src.max[uuid.Nil])
	}
	if len(s.limiter.owners) != 0 {
		t.Errorf("slots of %d owners are kept", len(s.limiter.owners))
	}
}
