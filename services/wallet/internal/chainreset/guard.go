package chainreset

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
)

const (
	// checkInterval is how long a check of a chain is used; farCheckInterval the same once the chain has come far.
	checkInterval, farCheckInterval = 30 * time.Second, time.Second
	// checkTimeout bounds a check, without the forgetting.
	checkTimeout = 6 * time.Second
	// forgetTimeout bounds one call's part of the forgetting.
	forgetTimeout = 2 * time.Minute
	// recordTTL is how long a record is used, and recordTimeout bounds reading it.
	recordTTL, recordTimeout = 10 * time.Second, 300 * time.Millisecond
)

// Guard checks chains. It is safe for concurrent use.
type Guard struct {
	store Store
	nodes Nodes
	times map[uint64]time.Duration
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	chains map[uint64]*watched
}

// watched is a chain. looking is held by the one that checks it; the rest is guarded by Guard.mu.
type watched struct {
	looking chan struct{}
	at      time.Time
	verdict Verdict
	tip     uint64 // the newest number that was kept or added by the last check
	readAt  time.Time
	known   Verdict
}

// NewGuard returns a guard of chains that forgets each after the time that is set, see [Never].
func NewGuard(s Store, n Nodes, times map[uint64]time.Duration, log *slog.Logger, now func() time.Time) *Guard {
	return &Guard{store: s, nodes: n, times: times, log: log, now: now, chains: map[uint64]*watched{}}
}

func (g *Guard) chain(id uint64) *watched {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.chains[id] == nil {
		g.chains[id] = &watched{looking: make(chan struct{}, 1)}
	}
	return g.chains[id]
}

// Last returns what the last check of this process found.
func (g *Guard) Last(chain uint64) Verdict {
	w := g.chain(chain)
	g.mu.Lock()
	defer g.mu.Unlock()
	return w.verdict
}

// Known returns what the checks of all replicas found, as of at most 10 seconds ago; what this one's last check found,
// while the database doesn't answer. It asks no node.
func (g *Guard) Known(ctx context.Context, chain uint64) Verdict {
	w := g.chain(chain)
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.now(); w.readAt.IsZero() || now.Sub(w.readAt) >= recordTTL {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		w.readAt = now
		if r, err := g.store.Record(limited, chain); err == nil {
			w.known = g.verdict(chain, r)
		} else {
			w.known = w.verdict
		}
	}
	return w.known
}

// Check checks a chain unless this process has within the last 30 seconds, or the last second when the chain has
// come to block at, far after the last that is kept. A chain that may go back is looked at whenever it has come to a
// block after that. It forgets what is stored of the chain if it is time. A check that
// fails changes nothing, and is logged: whoever reads the chain next gets the nodes' error.
func (g *Guard) Check(ctx context.Context, chain, at uint64) Verdict {
	w := g.chain(chain)
	g.mu.Lock()
	interval := checkInterval
	switch {
	case at > w.tip && g.mayGoBack(chain):
		interval = 0
	case at > w.tip+maxReorg:
		interval = farCheckInterval
	}
	g.mu.Unlock()
	return g.check(ctx, chain, interval)
}

// CheckNow is Check whatever the last check was. forgotten reports whether the chain was forgotten since the time
// since.
func (g *Guard) CheckNow(ctx context.Context, chain uint64, since time.Time) (v Verdict, forgotten bool) {
	v = g.check(ctx, chain, 0)
	return v, v.ForgottenAt.After(since)
}

func (g *Guard) check(ctx context.Context, chain uint64, unlessWithin time.Duration) Verdict {
	w := g.chain(chain)
	select {
	case w.looking <- struct{}{}:
		defer func() { <-w.looking }()
	case <-ctx.Done():
		return g.Last(chain)
	}
	g.mu.Lock()
	last, at := w.verdict, w.at
	g.mu.Unlock()
	if !at.IsZero() && g.now().Sub(at) < unlessWithin {
		return last
	}
	found, err := g.ask(ctx, w, chain, last)
	if err != nil {
		g.log.WarnContext(ctx, "chain not compared", "chain", chain, "error", err)
		return last
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w.verdict, w.at = found, g.now()
	return found
}

// ask compares the nodes' blocks with those that are kept.
func (g *Guard) ask(ctx context.Context, w *watched, chain uint64, last Verdict) (Verdict, error) {
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	known, err := g.store.Record(limited, chain)
	if err != nil {
		return Verdict{}, err
	}
	if known.ForgottenAt != nil && !known.ForgottenAt.Equal(last.ForgottenAt) {
		g.nodes.Forget(chain) // another replica has forgotten it
	}
	if known.Forgetting {
		return g.forget(ctx, chain, known)
	}
	heads, err := g.nodes.Heads(limited, chain)
	if err != nil {
		return Verdict{}, err
	}
	need := g.nodes.NeededToAgree(chain)
	kept := len(known.Blocks)
	numbers := make([]uint64, 0, kept)
	for _, b := range known.Blocks {
		numbers = append(numbers, b.Number)
	}
	if len(heads) >= need {
		slices.SortFunc(heads, func(a, b block.Block) int { return cmp.Compare(b.Number, a.Number) })
		numbers = append(numbers, numbersToAdd(known.Blocks, heads[need-1].Number)...)
	}
	histories, err := g.nodes.Histories(limited, chain, numbers)
	if err != nil {
		return Verdict{}, err
	}
	g.mu.Lock()
	w.tip = slices.Max(append(numbers, 0))
	g.mu.Unlock()
	var found judgement
	if kept > 0 {
		found = judge(known.Blocks, histories, need)
	}
	switch {
	case found.reset:
		return g.suspect(ctx, chain, found.evidence)
	case found.back && g.mayGoBack(chain):
		return g.suspectBack(ctx, chain, known, found)
	case kept == 0 || found.same || found.reorg:
		return g.keep(limited, chain, known, numbers, histories, found)
	}
	if found.evidence != "" {
		g.log.WarnContext(ctx, "a node has another chain than was read", "chain", chain, "evidence", found.evidence)
	}
	return g.verdict(chain, known), nil // nothing new is known
}

// keep stores blocks on which enough nodes agree, in place of those that were replaced or are not needed any more.
func (g *Guard) keep(ctx context.Context, chain uint64, known Record, numbers []uint64, nodes []History,
	found judgement) (Verdict, error) {
	kept := known.Blocks
	var remove []uint64
	if found.reorg {
		kept = slices.DeleteFunc(slices.Clone(kept), func(b block.Block) bool {
			if b.Number > found.common {
				remove = append(remove, b.Number)
			}
			return b.Number > found.common
		})
	}
	var add []block.Block
	for i := range numbers {
		if i < len(known.Blocks) && (!found.reorg || numbers[i] <= found.common) {
			continue
		}
		if b, ok := agreed(nodes, i, g.nodes.NeededToAgree(chain)); ok {
			add, kept = append(add, b), append(slices.Clone(kept), b)
		}
	}
	slices.SortFunc(kept, func(a, b block.Block) int { return cmp.Compare(b.Number, a.Number) })
	for _, n := range tooMany(kept) {
		remove = append(remove, n)
		add = slices.DeleteFunc(add, func(b block.Block) bool { return b.Number == n })
	}
	if len(add)+len(remove) == 0 && known.SuspectedAt == nil {
		return g.verdict(chain, known), nil
	}
	if known.SuspectedAt != nil {
		g.log.InfoContext(ctx, "the chain has the blocks again that were read", "chain", chain)
	}
	known.SuspectedAt = nil
	return g.verdict(chain, known), g.store.Keep(ctx, chain, add, remove)
}

// agreed returns the block at a place that enough nodes have.
func agreed(nodes []History, place, need int) (block.Block, bool) {
	count := map[block.Block]int{}
	for _, n := range nodes {
		b := n.Blocks[place]
		if count[b]++; b != (block.Block{}) && count[b] >= need {
			return b, true
		}
	}
	return block.Block{}, false
}

// suspect notes that a chain looks reset, and forgets it if it has for long enough.
func (g *Guard) suspect(ctx context.Context, chain uint64, evidence string) (Verdict, error) {
	known, err := g.store.Suspect(ctx, chain, evidence)
	if err != nil {
		return Verdict{}, err
	}
	v := g.verdict(chain, known)
	g.log.WarnContext(ctx, "the chain looks reset", "chain", chain, "evidence", v.Message)
	if v.ForgetAt.IsZero() || known.Now.Before(v.ForgetAt) || known.Seen < minSeen {
		return v, nil
	}
	return g.forget(ctx, chain, known)
}

// suspectBack notes that a chain looks as if it had gone back to an earlier state. While its head moves it begins
// anew: nodes that only lag come to the newest kept block again, and others to one of which they have another.
func (g *Guard) suspectBack(ctx context.Context, chain uint64, known Record, found judgement) (Verdict, error) {
	evidence := fmt.Sprintf("block %d was read, and no node has come to a block after %d", known.Blocks[0].Number,
		found.head)
	if known.SuspectedAt != nil && known.Evidence != evidence {
		if err := g.store.Keep(ctx, chain, nil, nil); err != nil {
			return Verdict{}, err
		}
	}
	return g.suspect(ctx, chain, evidence)
}

// Forget removes what is stored of a chain but for what was imported, now.
func (g *Guard) Forget(ctx context.Context, chain uint64) (Forgotten, error) {
	removed, err := g.store.Forget(ctx, chain)
	if err != nil {
		return removed, err
	}
	g.nodes.Forget(chain)
	g.log.WarnContext(ctx, "the chain was reset, and what was stored of it is forgotten", "chain", chain, "wallets",
		removed.Wallets, "balances", removed.Balances, "transactions", removed.Transactions, "hours", removed.Hours)
	return removed, nil
}

func (g *Guard) forget(ctx context.Context, chain uint64, known Record) (Verdict, error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	if _, err := g.Forget(limited, chain); err != nil {
		return g.verdict(chain, known), err
	}
	known, err := g.store.Record(limited, chain)
	return g.verdict(chain, known), err
}

// verdict says what a record means.
func (g *Guard) verdict(chain uint64, r Record) (v Verdict) {
	if r.ForgottenAt != nil {
		v.ForgottenAt = *r.ForgottenAt
	}
	if r.SuspectedAt == nil {
		return v
	}
	v.SuspectedAt = *r.SuspectedAt
	what := fmt.Sprintf("the command \"wallet reset-chain %s\" forgets what was read of it", caip.ChainID(chain))
	if after := g.after(chain); after != Never {
		v.ForgetAt = v.SuspectedAt.Add(after)
		what = fmt.Sprintf("what was read of it is forgotten after %s if that goes on, or now by the command "+
			"\"wallet reset-chain %s\"", v.ForgetAt.UTC().Format(time.RFC3339), caip.ChainID(chain))
	}
	v.Message = fmt.Sprintf("the chain was reset or went back to an earlier state, or its nodes are of another one: "+
		"%s; %s", r.Evidence, what)
	return v
}
