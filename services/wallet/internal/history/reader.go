package history

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// maxBalancesPerRead is how many balances of an hour are read in one call of
	// BalanceReader, so that it ends well within readBudget.
	maxBalancesPerRead = 2000
	// maxConcurrentReads is how many reads one call makes concurrently, each of a
	// group of wallets.
	maxConcurrentReads = 8
	// maxHoursPerRead is how many hours are read in one call of BalanceReader, and
	// stored by one transaction.
	maxHoursPerRead = 48
)

// readResult is the state of a span after its missing hours were read.
type readResult struct {
	done   hourSet               // hours that need no further read: stored or failed
	errors map[WalletHour]string // of hours that can't be read
	saved  bool                  // balances were stored
}

// reader reads the missing balances of a span.
type reader struct {
	chains  BalanceReader
	write   func([]HourBalances) error // stores hours; it isn't bound by the time to read
	log     *slog.Logger
	now     func() time.Time
	wallets ownerWallets
	span    span

	mu     sync.Mutex
	result readResult
}

// chainErrors are the errors of the chains that a call stopped to read. It is safe for
// concurrent use.
type chainErrors struct {
	mu      sync.Mutex
	byChain map[uint64]error
}

func (c *chainErrors) set(chain uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byChain[chain] = err
}

func (c *chainErrors) all() map[uint64]error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byChain)
}

func newReader(s *Service, wallets ownerWallets, sp span, done hourSet, write func([]HourBalances) error) *reader {
	return &reader{write: write, chains: s.chains, log: s.log, now: s.now, wallets: wallets, span: sp,
		result: readResult{done: maps.Clone(done), errors: map[WalletHour]string{}}}
}

// walletGroup is wallets of one chain that are read in one call.
type walletGroup struct {
	chain   uint64
	wallets []wallet.Wallet
	holders []common.Address // of the wallets
}

// groups divides the wallets by chain, and into groups of up to
// maxBalancesPerRead balances.
func (w ownerWallets) groups() []walletGroup {
	byChain := map[uint64][]wallet.Wallet{}
	for _, w := range w.all {
		byChain[w.Account.Chain] = append(byChain[w.Account.Chain], w)
	}
	var groups []walletGroup
	for _, chain := range slices.Sorted(maps.Keys(byChain)) {
		size := max(1, maxBalancesPerRead/max(1, len(w.tokens[chain])))
		for wallets := range slices.Chunk(byChain[chain], size) {
			g := walletGroup{chain: chain, wallets: wallets}
			for _, w := range wallets {
				g.holders = append(g.holders, w.Account.Address)
			}
			groups = append(groups, g)
		}
	}
	return groups
}

// read reads and stores the missing hours until ctx ends. The error is that of a
// chain, when none can be read, or of the store; what was read until then is in the result.
//
// All wallets are read a few hours at a time. An hour that can't be read is not
// stored, so a call makes progress only if it has finished an hour of all wallets.
func (r *reader) read(ctx context.Context, missing []time.Time) (readResult, error) {
	groups := r.wallets.groups()
	for hours := range slices.Chunk(missing, r.wallets.hoursPerRead(len(groups))) {
		var all errgroup.Group
		all.SetLimit(maxConcurrentReads)
		for _, g := range groups {
			all.Go(func() error { return r.readGroup(ctx, g, hours) })
		}
		if err := all.Wait(); err != nil {
			return r.result, err
		}
	}
	return r.result, r.failChains(ctx, groups)
}

// failChains fails the hours of the chains that can't be read: an hour of the other
// chains is not held up by them. The error is that of a chain when none of the
// owner's chains can be read.
func (r *reader) failChains(ctx context.Context, groups []walletGroup) error {
	chains := map[uint64]bool{}
	for _, g := range groups {
		chains[g.chain] = true
	}
	failed := r.wallets.failed.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, chain := range slices.Sorted(maps.Keys(failed)) {
		err := failed[chain]
		e := errs.As(err)
		if e == nil || e.Kind != errs.KindUnavailable || len(failed) == len(chains) {
			return err
		}
		r.log.WarnContext(ctx, "history without a chain", "chain", chain, "error", err)
		for _, hour := range r.span.hours() {
			r.fail(chain, hour, e.Message)
		}
	}
	return nil
}

// hoursPerRead is how many hours are read together: as many as have
// maxBalancesPerRead balances, but at least maxConcurrentReads for each group that
// is read concurrently. It is one hour when some groups have to wait for others, and all
// where the past is read by changes.
func (w ownerWallets) hoursPerRead(groups int) int {
	for chain := range w.tokens {
		if w.sparse(chain) {
			return maxSparseHours
		}
	}
	if groups > maxConcurrentReads {
		return 1
	}
	balances := 1
	for _, wallet := range w.all {
		balances += len(w.tokens[wallet.Account.Chain])
	}
	return min(maxHoursPerRead, max(maxConcurrentReads/max(1, groups), maxBalancesPerRead/balances))
}

// readGroup reads and stores the hours that the group still lacks.
func (r *reader) readGroup(ctx context.Context, g walletGroup, hours []time.Time) error {
	hours = r.missingForGroup(g, hours)
	if r.wallets.sparse(g.chain) {
		for _, run := range runsOf(hours) {
			if len(run) < minSparseRun || ctx.Err() != nil {
				continue
			}
			done, err := r.readByChanges(ctx, g, run)
			if err != nil {
				return err
			}
			hours = slices.DeleteFunc(hours, func(hour time.Time) bool { return slices.Contains(run[:done], hour) })
		}
	}
	if len(hours) == 0 || ctx.Err() != nil {
		return nil //nolint:nilerr // the time to read is over; what was read until then is returned
	}
	readings, err := r.chains.ReadAt(ctx, g.chain, hours, g.holders, r.wallets.tokens[g.chain])
	r.recordErrors(ctx, g.chain, hours, readings, err)
	return r.save(r.withPositions(ctx, g, r.balances(g, hours, readings)))
}

// runsOf divides hours, which are in order, into those without a gap.
func runsOf(hours []time.Time) (runs [][]time.Time) {
	first := 0
	for i := 1; i <= len(hours); i++ {
		if i == len(hours) || !hours[i].Equal(hours[i-1].Add(time.Hour)) {
			runs = append(runs, slices.Clone(hours[first:i]))
			first = i
		}
	}
	return runs
}

// missingForGroup returns the hours the group still lacks; none if its chain has
// failed.
func (r *reader) missingForGroup(g walletGroup, hours []time.Time) []time.Time {
	if r.wallets.failed.all()[g.chain] != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(hours), func(hour time.Time) bool {
		return len(missingHours(g.wallets, span{hour, hour.Add(time.Hour)}, r.result.done)) == 0
	})
}

// recordErrors records what could not be read of a chain: the error of each
// reading, and err, the error of the whole read:
//   - FailedPrecondition (the chain has no node) fails these and all later hours of
//     the span.
//   - Any other error stops the reading of this chain in this call.
//   - An error after ctx has ended is ignored: it isn't the chain's.
func (r *reader) recordErrors(ctx context.Context, chain uint64, hours []time.Time, readings []Reading, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, reading := range readings {
		if reading.Error != "" {
			r.fail(chain, hours[i], reading.Error)
		}
	}
	e := errs.As(err)
	switch {
	case err == nil:
	case e != nil && e.Kind == errs.KindFailedPrecondition:
		for _, hour := range (span{hours[0], r.span.until}).hours() {
			r.fail(chain, hour, e.Message)
		}
	case ctx.Err() == nil:
		r.wallets.failed.set(chain, err)
	}
}

// fail records the error of a chain's hour for all its wallets that lack the hour.
// The caller holds the mutex.
func (r *reader) fail(chain uint64, hour time.Time, text string) {
	for _, w := range r.wallets.all {
		if h := (WalletHour{w.ID, hour.Unix()}); w.Account.Chain == chain && !r.result.done[h] {
			r.result.done[h], r.result.errors[h] = true, text
		}
	}
}

// balances returns those hours in the readings that the group's wallets lack.
func (r *reader) balances(g walletGroup, hours []time.Time, readings []Reading) []HourBalances {
	tokens, now := r.wallets.tokens[g.chain], r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var read []HourBalances
	for i, reading := range readings {
		for j, w := range g.wallets {
			h := WalletHour{w.ID, hours[i].Unix()}
			complete := len(reading.Amounts) == len(g.wallets) && len(reading.Amounts[j]) == len(tokens)
			if r.result.done[h] || !complete {
				continue
			}
			held, unread := heldAndUnread(tokens, reading.Amounts[j])
			read = append(read, HourBalances{
				Record: Record{WalletHour: h, AssetCount: r.wallets.assets(g.chain), Unread: unread, ReadAt: now},
				Chain:  g.chain, Block: reading.Block, Balances: held,
			})
		}
	}
	return read
}

// save stores hours, also after the time to read has ended.
func (r *reader) save(hours []HourBalances) error {
	if len(hours) == 0 {
		return nil
	}
	if err := r.write(hours); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.saved = true
	for _, h := range hours {
		r.result.done[h.WalletHour] = true
	}
	return nil
}

// heldAndUnread returns the amounts above zero by token id, and a text with the
// symbols of the tokens that could not be read, "" for none.
func heldAndUnread(tokens []token.Token, amounts []*uint256.Int) (map[string]uint256.Int, string) {
	held := map[string]uint256.Int{}
	var unread []string
	for i, t := range tokens {
		switch a := amounts[i]; {
		case a == nil:
			unread = append(unread, t.Symbol)
		case !a.IsZero():
			held[t.ID] = *a
		}
	}
	if len(unread) > 0 {
		return held, "not readable: " + strings.Join(unread, ", ")
	}
	return held, ""
}
