package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"golang.org/x/sync/errgroup"
)

const (
	// batchSize is the number of blocks made before they are stored.
	batchSize = 128

	// safeDepth and finalDepth are the distances of the "safe" and the "finalized" block from the head.
	safeDepth, finalDepth = 1, 2
)

// Mine adds the blocks of all steps up to now, and one block with the pending transactions. The time of that
// block is the clock's, or one second after its parent's if that is later.
func (c *Chain) Mine(ctx context.Context) error {
	c.mining.Lock()
	defer c.mining.Unlock()

	if err := c.fill(ctx, c.due()); err != nil {
		return err
	}
	at := max(uint64(c.options.Now().Unix()), c.eth.BlockChain().CurrentBlock().Time+1)
	return c.extend([]uint64{at}, c.pending())
}

// catchUp adds the blocks that are due at a start, the last of them with the current time.
func (c *Chain) catchUp(ctx context.Context) error {
	c.mining.Lock()
	defer c.mining.Unlock()

	times := c.due()
	if now := uint64(c.options.Now().Unix()); now > c.eth.BlockChain().CurrentBlock().Time {
		times = append(times, now)
	}
	if err := c.fill(ctx, times); err != nil {
		return err
	}
	c.updateFinality()
	return nil
}

// due returns the times of the plan's steps between the head and now.
func (c *Chain) due() []uint64 {
	plan, now := c.Plan(), c.options.Now()
	var times []uint64
	for step := plan.Steps(c.Head().Time) + 1; ; step++ {
		at := plan.At(step)
		if at.Unix() >= now.Unix() {
			return times
		}
		times = append(times, uint64(at.Unix()))
	}
}

// fill adds a block for each of the times. A batch is made while the one before it
// is stored.
func (c *Chain) fill(ctx context.Context, times []uint64) error {
	bc := c.eth.BlockChain()
	parent := bc.GetBlock(bc.CurrentBlock().Hash(), bc.CurrentBlock().Number.Uint64())
	var storing errgroup.Group
	for made := 0; made < len(times); {
		batch := times[made:min(made+batchSize, len(times))]
		blocks, err := c.generate(parent, batch, nil)
		if err := errors.Join(err, storing.Wait()); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("chain: %d of %d blocks made: %w", made, len(times), err)
		}
		parent, made = blocks[len(blocks)-1], made+len(batch)
		storing.Go(func() error {
			if err := c.store(blocks); err != nil {
				return err
			}
			c.options.Progress(made, len(times))
			return nil
		})
	}
	return storing.Wait()
}

// extend makes a block for each of the times, which must be after the head and
// rise, stores them, and makes the last of them the head. Every block carries the
// plan's steps since the one before it; the last one begins with pending.
func (c *Chain) extend(times []uint64, pending []*types.Transaction) error {
	bc := c.eth.BlockChain()
	head := bc.CurrentBlock()
	blocks, err := c.generate(bc.GetBlock(head.Hash(), head.Number.Uint64()), times, pending)
	if err != nil {
		return err
	}
	return c.store(blocks)
}

// store stores blocks and makes the last of them the head.
func (c *Chain) store(blocks types.Blocks) error {
	if err := c.options.checkSpace(); err != nil {
		return err
	}
	if _, err := c.eth.BlockChain().InsertChain(blocks); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	if err := c.eth.ChainDb().SyncKeyValue(); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	c.updateFinality()
	return nil
}

// generate makes the blocks after parent. It stores their state, and not the blocks.
func (c *Chain) generate(parent *types.Block, times []uint64, pending []*types.Transaction) (blocks types.Blocks,
	err error) {
	if err := c.options.checkSpace(); err != nil {
		return nil, err
	}
	defer func() {
		// core.GenerateChain reports everything by a panic.
		if p := recover(); p != nil {
			err = fmt.Errorf("chain: make a block: %v", p)
		}
	}()
	bc := c.eth.BlockChain()
	before := parent.Time()
	blocks, _ = core.GenerateChain(bc.Config(), parent, bc.Engine(), c.eth.ChainDb(), len(times),
		func(i int, gen *core.BlockGen) {
			gen.OffsetTime(int64(times[i]) - int64(gen.Timestamp()))
			gen.SetCoinbase(feeRecipient())
			b := blockBuilder{gen: gen, chain: bc, signer: gen.Signer()}
			if i == len(times)-1 {
				b.addPending(pending)
			}
			after, upTo := c.stepsAt(before), c.stepsAt(times[i])
			b.addMoves(c.cursor.moves(after, upTo))
			if c.meta.Defi {
				b.addDefi(c.meta, after, upTo)
			}
			before = times[i]
		})
	return blocks, nil
}

func (c *Chain) stepsAt(unix uint64) int {
	return c.Plan().Steps(time.Unix(int64(unix), 0))
}

// updateFinality sets the "safe" and the "finalized" block.
func (c *Chain) updateFinality() {
	bc := c.eth.BlockChain()
	head := bc.CurrentBlock().Number.Uint64()
	bc.SetSafe(bc.GetHeaderByNumber(head - min(head, safeDepth)))
	bc.SetFinalized(bc.GetHeaderByNumber(head - min(head, finalDepth)))
}
