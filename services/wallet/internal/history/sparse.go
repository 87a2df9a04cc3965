package history

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// maxDense is up to how many balances an owner has on a chain of whom every hour is read in full.
	maxDense = 300
	// minSparseRun is of how many hours in a row not all are read.
	minSparseRun = 4
	// maxPointGap is how many hours apart points are at most at which all balances are read.
	maxPointGap = 84
	// coinGap is the most hours between two readings of a balance without events; fewer as long as an hour has no more
	// than coinsPerHour of them on average.
	coinGap, coinsPerHour = 24, 100
)

// sparse reports whether the past of a chain's wallets is read by changes.
func (w ownerWallets) sparse(chain uint64) bool {
	return w.count(chain)*len(w.tokens[chain]) > maxDense
}

// count is how many wallets are on a chain.
func (w ownerWallets) count(chain uint64) (n int) {
	for _, wallet := range w.all {
		if wallet.Account.Chain == chain {
			n++
		}
	}
	return n
}

// readByChanges reads and stores the first hours of some in a row of a group, not all of them in full, and returns how
// many: those that are left are to be asked for one by one, since a node can't tell of one of them.
func (r *reader) readByChanges(ctx context.Context, g walletGroup, hours []time.Time) (done int, err error) {
	blocks, err := r.chains.ReadAt(ctx, g.chain, hours, nil, nil)
	if err != nil {
		r.recordErrors(ctx, g.chain, hours, nil, err)
		return len(hours), nil
	}
	if n := slices.IndexFunc(blocks, isUnread); n >= 0 { // such as an hour that the chain has not passed yet
		hours, blocks = hours[:n], blocks[:n]
	}
	if len(hours) < minSparseRun {
		return 0, nil
	}
	tokens, points := r.wallets.tokens[g.chain], pointsOf(len(hours))
	at := timesOf(hours, points)
	full, err := r.chains.ReadAt(ctx, g.chain, at, g.holders, tokens)
	if err != nil {
		r.recordErrors(ctx, g.chain, at, nil, err)
		return len(hours), r.save(r.withPositions(ctx, g, r.balances(g, at, full)))
	}
	if slices.ContainsFunc(full, isUnread) {
		return 0, nil
	}
	s := newSparseRead(hours, g.holders, tokens)
	for i, p := range points {
		s.learn(p, all(len(g.holders)), all(len(tokens)), full[i].Amounts)
	}
	unreadable, err := r.narrow(ctx, g, s, blocks)
	switch {
	case err != nil: // the points stay
		r.recordErrors(ctx, g.chain, hours, nil, err)
		return len(hours), r.save(r.withPositions(ctx, g, r.balances(g, at, full)))
	case unreadable:
		return 0, nil
	}
	return len(hours), r.save(r.withPositions(ctx, g, r.hoursOf(g, s, blocks)))
}

// pointsOf returns the indexes of n hours at which all balances are read: the first, the last, and some between.
func pointsOf(n int) (points []int) {
	gaps := (n - 1 + maxPointGap - 1) / maxPointGap
	for i := range gaps + 1 {
		points = append(points, i*(n-1)/gaps)
	}
	return points
}

func timesOf(hours []time.Time, indexes []int) []time.Time {
	times := make([]time.Time, len(indexes))
	for i, at := range indexes {
		times[i] = hours[at]
	}
	return times
}

func isUnread(r Reading) bool { return r.Error != "" || r.Amounts == nil }

// all returns 0 to n-1.
func all(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// narrow reads what lies between the points, as far as it may differ from them. unreadable says that a node can't
// tell of one of the hours.
func (r *reader) narrow(ctx context.Context, g walletGroup, s *sparseRead, blocks []Reading) (unreadable bool,
	err error) {
	silent := all(len(s.tokens)) // tokens without events
	if err := r.readTransfers(ctx, g, s, blocks); err == nil {
		silent = slices.DeleteFunc(silent, func(i int) bool { return !s.tokens[i].Native })
	} else if ctx.Err() != nil {
		return false, err
	} else {
		r.log.InfoContext(ctx, "history is read without events", "chain", g.chain, "error", err)
	}
	gap := (r.wallets.count(g.chain)*len(silent) + coinsPerHour - 1) / coinsPerHour
	wanted := map[int]*rectangle{}
	if len(silent) > 0 {
		for at := 0; at < len(s.hours); at += min(coinGap, max(1, gap)) {
			wanted[at] = &rectangle{all(len(s.holders)), silent}
		}
	}
	for _, p := range pointsOf(len(s.hours)) {
		delete(wanted, p)
	}
	for {
		if unreadable, err := r.readRectangles(ctx, g, s, wanted); unreadable || err != nil {
			return unreadable, err
		}
		if wanted = s.wanted(); len(wanted) == 0 {
			return false, nil
		}
	}
}

// readTransfers learns in which hours events name the holders.
func (r *reader) readTransfers(ctx context.Context, g walletGroup, s *sparseRead, blocks []Reading) error {
	from, to := blocks[0].Block.Number+1, blocks[len(blocks)-1].Block
	if blocks[0].Block.Time.IsZero() { // the chain began later
		from = 0
	}
	if to.Time.IsZero() || to.Number < from {
		return nil
	}
	transfers, err := r.chains.Transfers(ctx, g.chain, g.holders, from, to.Number)
	if err != nil {
		return err
	}
	for _, t := range transfers {
		s.note(t)
	}
	return nil
}

// rectangle is holders and tokens, by index, of which each with each is read.
type rectangle struct{ holders, tokens []int }

// readRectangles reads balances at hours, by index.
func (r *reader) readRectangles(ctx context.Context, g walletGroup, s *sparseRead,
	wanted map[int]*rectangle) (unreadable bool, err error) {
	alike := map[string][]int{} // hours by what is read at them
	for at, of := range wanted {
		key := fmt.Sprint(of.holders, of.tokens)
		alike[key] = append(alike[key], at)
	}
	var mu sync.Mutex
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(maxConcurrentReads)
	for _, indexes := range alike {
		slices.Sort(indexes)
		of := wanted[indexes[0]]
		reads.Go(func() error {
			holders, tokens := make([]common.Address, len(of.holders)), make([]token.Token, len(of.tokens))
			for i, h := range of.holders {
				holders[i] = s.holders[h]
			}
			for i, t := range of.tokens {
				tokens[i] = s.tokens[t]
			}
			readings, err := r.chains.ReadAt(ctx, g.chain, timesOf(s.hours, indexes), holders, tokens)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if slices.ContainsFunc(readings, isUnread) {
				unreadable = true
				return nil
			}
			for i, at := range indexes {
				s.learn(at, of.holders, of.tokens, readings[i].Amounts)
			}
			return nil
		})
	}
	err = reads.Wait()
	return unreadable, err
}

// hoursOf returns those hours that the group's wallets lack. Hours that are alike share their balances.
func (r *reader) hoursOf(g walletGroup, s *sparseRead, blocks []Reading) (read []HourBalances) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	read = make([]HourBalances, 0, len(g.wallets)*len(s.hours))
	for h, w := range g.wallets {
		changes := s.changesOf(h)
		amounts := make([]*uint256.Int, len(s.tokens))
		var held map[string]uint256.Int
		var unread string
		for at, hour := range s.hours {
			if len(changes[at]) > 0 {
				for _, c := range changes[at] {
					amounts[c.token] = c.amount
				}
				held, unread = heldAndUnread(s.tokens, amounts)
			}
			if wh := (WalletHour{w.ID, hour.Unix()}); !r.result.done[wh] {
				read = append(read, HourBalances{Chain: g.chain, Block: blocks[at].Block, Balances: held,
					Record: Record{WalletHour: wh, AssetCount: r.wallets.assets(g.chain), Unread: unread,
						ReadAt: now}})
			}
		}
	}
	return read
}
