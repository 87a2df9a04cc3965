package history

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// maxConcurrentPositions is of how many hours the positions are read concurrently.
const maxConcurrentPositions = 16

// withPositions adds what the group's wallets had in markets in hours whose balances were read. Hours of which the
// positions were not read before ctx ended are left out.
func (r *reader) withPositions(ctx context.Context, g walletGroup, hours []HourBalances) []HourBalances {
	if r.wallets.positions == nil || r.wallets.positions.Markets(g.chain) == 0 {
		return hours
	}
	holder := map[uuid.UUID]common.Address{}
	for i, w := range g.wallets {
		holder[w.ID] = g.holders[i]
	}
	byHour := map[int64][]int{} // indexes of hours
	for i, h := range hours {
		byHour[h.Hour] = append(byHour[h.Hour], i)
	}
	var mu sync.Mutex
	unread := map[int64]bool{}
	var calls defi.Calls
	var reads errgroup.Group
	reads.SetLimit(maxConcurrentPositions)
	// The newest first: a market that was not there then wasn't before either. It is read alone, for its calls.
	first := true
	for _, hour := range slices.Backward(slices.Sorted(maps.Keys(byHour))) {
		indexes := byHour[hour]
		at := hours[indexes[0]].Block
		if at.Time.IsZero() { // the chain began later
			continue
		}
		holders := make([]common.Address, len(indexes))
		for i, index := range indexes {
			holders[i] = holder[hours[index].Wallet]
		}
		readHour := func() error {
			read, err := r.wallets.positions.ReadPast(ctx, g.chain, at, holders, &calls)
			mu.Lock()
			defer mu.Unlock()
			if unread[hour] = err != nil; unread[hour] {
				return nil
			}
			for i, index := range indexes {
				hours[index].setPositions(read[i])
			}
			return nil
		}
		if first {
			first = false
			_ = readHour()
			continue
		}
		reads.Go(readHour)
	}
	_ = reads.Wait()
	return slices.DeleteFunc(hours, func(h HourBalances) bool { return unread[h.Hour] })
}

// setPositions keeps what is worth to be stored of readings.
func (h *HourBalances) setPositions(read []defi.Reading) {
	h.Positions = []defi.Reading{}
	for _, m := range read {
		if m.Missing != "" {
			h.MarketsUnread = true
		} else if !m.HasAny() {
			continue
		}
		m.Positions = slices.DeleteFunc(slices.Clone(m.Positions), func(p defi.Position) bool { return p.Ended })
		h.Positions = append(h.Positions, m)
	}
}
