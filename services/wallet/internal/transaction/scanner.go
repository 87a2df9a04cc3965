package transaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// maxWalletsPerStep is how many wallets one step looks at.
	maxWalletsPerStep = 100
	// maxStepBlocks is how many blocks one step looks at; the node may give fewer.
	maxStepBlocks = 1 << 20
	// writeGrace is how long the write of a step may go on after ctx has ended. A database that is slow has all of the
	// scan's time.
	writeGrace = 30 * time.Second
)

// Scanner looks for movements. It is safe for concurrent use.
type Scanner struct {
	store ScanStore
	chain ChainReader
	log   *slog.Logger
	first map[uint64]uint64 // the first block to look at, by chain
	// compare looks whether the chain was reset.
	compare func(ctx context.Context, chain uint64)
}

// NewScanner returns a scanner that begins at block first[chain], or at block 0.
func NewScanner(s ScanStore, c ChainReader, first map[uint64]uint64, log *slog.Logger) *Scanner {
	return &Scanner{store: s, chain: c, first: first, log: log, compare: func(context.Context, uint64) {}}
}

// Compare sets f, which is called before a chain is scanned and checks for a reset. Call it before Run.
func (s *Scanner) Compare(f func(ctx context.Context, chain uint64)) { s.compare = f }

// Run looks for the movements of all wallets of the chains of a shard, up to their last syncs, all of these chains
// concurrently. A shard, from 0, has every shards-th chain: the wallets of one chain are looked at together, since a
// question to its nodes is about many of them. Its error names the chains that failed; what was found until then is
// stored. It ends when ctx does, and the next run goes on from there.
func (s *Scanner) Run(ctx context.Context, shard, shards int) error {
	var chains []uint64
	for i, chain := range s.chain.Chains() {
		if i%shards == shard {
			chains = append(chains, chain)
		}
	}
	failures := make([]error, len(chains))
	var all sync.WaitGroup
	for i, chain := range chains {
		all.Go(func() {
			if err := s.scanChain(ctx, chain); err != nil {
				failures[i] = fmt.Errorf("chain %s: %w", caip.ChainID(chain), err)
			}
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

func (s *Scanner) scanChain(ctx context.Context, chain uint64) error {
	s.compare(ctx, chain)
	if err := s.checkReorg(ctx, chain); err != nil {
		return err
	}
	for {
		due, err := s.store.DueScans(ctx, chain, maxWalletsPerStep)
		if err != nil || len(due) == 0 {
			return err
		}
		saved, err := s.step(ctx, chain, due)
		if err != nil {
			return err
		}
		if saved == 0 { // another replica does the same
			return nil
		}
	}
}

// checkReorg compares the blocks at which scans ended with the chain's present ones, and
// rolls back to the last one that it still has.
func (s *Scanner) checkReorg(ctx context.Context, chain uint64) error {
	checkpoints, err := s.store.Checkpoints(ctx, chain)
	if err != nil || len(checkpoints) == 0 {
		return err
	}
	numbers := make([]uint64, len(checkpoints))
	for i, c := range checkpoints {
		numbers[i] = c.Number
	}
	newest, err := s.chain.BlocksAt(ctx, chain, numbers[:1])
	if err != nil || newest[0].Hash == checkpoints[0].Hash {
		return err
	}
	// A node that lags doesn't have the block yet, which is no reorg: the chain has
	// another block of that number, or one below it has changed.
	present, err := s.chain.SureBlocksAt(ctx, chain, numbers)
	if err != nil {
		return err
	}
	// Without a common block: no older one can be replaced.
	changed, common := false, block.Block{Time: time.Now().Add(-block.FinalAfter)}
	for i, c := range checkpoints {
		if present[i] == (block.Block{}) {
			continue
		}
		if present[i].Hash == c.Hash {
			common = present[i]
			break
		}
		changed = true
	}
	if !changed {
		return nil
	}
	removed, err := s.store.Rollback(ctx, common.Number, block.Replaced{Chain: chain, Since: common.Time})
	if err != nil {
		return err
	}
	s.log.WarnContext(ctx, "transactions rolled back after a reorg", "chain", chain, "block", common.Number,
		"removed", removed)
	return nil
}

// step looks for the movements of the wallets that are farthest behind, from the same
// block on. It returns how many wallets the result was stored for.
func (s *Scanner) step(ctx context.Context, chain uint64, due []Scan) (int, error) {
	first := s.first[chain]
	from := func(w Scan) uint64 {
		if w.Scanned == 0 {
			return first
		}
		return w.Scanned + 1
	}
	blocks := Range{From: from(due[0])}
	blocks.To = min(due[0].Synced, blocks.From+maxStepBlocks-1)
	if due[0].Synced < blocks.From { // the chain is younger than the first block to look at
		blocks.From = due[0].Synced
		blocks.To = due[0].Synced
	}
	// Wallets that are due for later blocks come along when they begin within this range:
	// what they know already is left out. The range ends at the first one's last sync.
	var scans []Scan
	var holders []common.Address
	for _, w := range due {
		if from(w) <= blocks.To && w.Synced >= blocks.From {
			blocks.To = min(blocks.To, w.Synced)
		}
	}
	for _, w := range due {
		if from(w) <= blocks.To || w.Scanned == due[0].Scanned {
			scans = append(scans, w)
			if !slices.Contains(holders, w.Account.Address) {
				holders = append(holders, w.Account.Address)
			}
		}
	}
	reading, err := s.chain.Movements(ctx, chain, holders, blocks)
	if err != nil {
		return 0, err
	}
	found := Step{Chain: chain, Scans: scans, Through: reading.Through, Found: reading.Found}
	if found.Tokens, err = s.discover(ctx, chain, reading.Found); err != nil {
		return 0, err
	}
	finishing, cancel := deadline.Grace(ctx, writeGrace)
	defer cancel()
	return s.store.SaveStep(finishing, found)
}

// discover returns the tokens of what was found that are not known yet.
func (s *Scanner) discover(ctx context.Context, chain uint64, found []Found) ([]token.Token, error) {
	contracts := map[string]common.Address{}
	for _, f := range found {
		if !f.Native {
			contracts[caip.Asset{Chain: chain, Contract: f.Contract}.String()] = f.Contract
		}
	}
	ids := make([]string, 0, len(contracts))
	for id := range contracts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	known, err := s.store.KnownTokens(ctx, ids)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { _, ok := known[id]; return ok })
	var out []token.Token
	for some := range slices.Chunk(ids, 100) {
		addresses := make([]common.Address, len(some))
		for i, id := range some {
			addresses[i] = contracts[id]
		}
		says, err := s.chain.Metadata(ctx, chain, addresses)
		if err != nil {
			return nil, err
		}
		for i, id := range some {
			out = append(out, token.Token{ID: id, Chain: chain, Contract: addresses[i], Symbol: says[i].Symbol,
				Name: says[i].Name, Decimals: says[i].Decimals, Checked: true, Discovered: true, Spam: says[i].Spam})
		}
	}
	return out, nil
}
