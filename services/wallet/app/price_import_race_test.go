package app_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// Calls that are repeated while the first is under way get its answer; of calls with the same rows one stores them.
func TestConcurrentImportsStoreEachPriceOnce(t *testing.T) {
	s, _, _ := startPriced(t, "llama,imported")
	ctx := s.may(t, "prices:import")
	now := time.Now().UTC().Truncate(time.Second)
	const calls, rows = 16, 20
	request := func(id string, backwards bool) *walletv1.ImportPricesRequest {
		r := &walletv1.ImportPricesRequest{RequestId: id}
		for i := range rows {
			if backwards {
				i = rows - 1 - i
			}
			r.Prices = append(r.Prices, imported(aaa, fmt.Sprint(i+1), now.Add(-time.Duration(i)*time.Hour)))
		}
		return r
	}
	same := uuid.NewString()
	var all sync.WaitGroup
	var mu sync.Mutex
	repeated, stored, unchanged := map[int32]int{}, int32(0), int32(0)
	for i := range calls {
		all.Go(func() {
			id := same
			if i%2 == 1 {
				id = uuid.NewString()
			}
			got, err := s.prices.ImportPrices(ctx, request(id, i%4 == 1))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(got.GetFailures()) > 0 {
				t.Errorf("call %d: %v, %v", i, got, err)
				return
			}
			if id == same {
				repeated[got.GetImportedCount()]++
				return
			}
			stored, unchanged = stored+got.GetImportedCount(), unchanged+got.GetUnchangedCount()
		})
	}
	all.Wait()
	if len(repeated) != 1 {
		t.Errorf("one request was answered in several ways: %v", repeated)
	}
	for n := range repeated {
		if stored+n != rows || stored+unchanged != calls/2*rows {
			t.Errorf("%d and %d rows were imported, %d unchanged; want %d once", n, stored, unchanged, rows)
		}
	}
	var count int
	err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM imported_prices").Scan(&count)
	if err != nil || count != rows {
		t.Errorf("%d rows are stored, %v", count, err)
	}
}
