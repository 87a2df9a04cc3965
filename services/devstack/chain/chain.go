package chain

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/node"
	"github.com/holiman/uint256"
)

// Chain is a running chain. Its methods are safe for concurrent use.
type Chain struct {
	options Options
	meta    metadata
	cast    Cast

	stack *node.Node
	eth   *eth.Ethereum

	// mining is held while blocks are made or nonces assigned.
	mining sync.Mutex
	cursor cursor

	stop      context.CancelFunc
	loop      sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Block identifies a block.
type Block struct {
	Number uint64
	Hash   common.Hash
	Time   time.Time
}

// Start opens or creates the chain in o.Dir, adds the blocks up to now and serves it. Cancelling ctx ends
// the start, not the chain; the next start continues an interrupted one. The caller must Close the chain.
func Start(ctx context.Context, o Options) (*Chain, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	stack, err := openNode(o)
	if err != nil {
		return nil, err
	}
	c := &Chain{options: o, cast: DevCast(), stack: stack}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.abandon())
	}
	c.run()
	return c, nil
}

// open brings the stored chain up to date and starts to serve it.
func (c *Chain) open(ctx context.Context) error {
	if err := c.options.checkSpace(); err != nil {
		return err
	}
	meta, err := openMetadata(filepath.Join(c.options.Dir, nodeName), c.options)
	if err != nil {
		return err
	}
	c.meta = meta
	c.cursor = newCursor(meta.plan())
	spec, err := genesis(meta)
	if err != nil {
		return err
	}
	if c.eth, err = openEthereum(c.stack, spec); err != nil {
		return fmt.Errorf("chain: %s: %w", c.options.Dir, err)
	}
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	c.eth.SetSynced()
	if err := c.stack.Start(); err != nil {
		return fmt.Errorf("chain: serve %s: %w", c.options.HTTPAddr, err)
	}
	return nil
}

// abandon closes what a failed start has opened.
func (c *Chain) abandon() error {
	var err error
	if c.eth != nil {
		err = c.eth.TxPool().Close()
		c.eth.BlockChain().Stop()
	}
	return errors.Join(err, c.stack.Close())
}

// run starts the mining loop.
func (c *Chain) run() {
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	ticks, stopTicks := c.options.ticks()
	if ticks == nil {
		return
	}
	c.loop.Go(func() {
		defer stopTicks()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
				if err := c.Mine(ctx); err != nil && ctx.Err() == nil {
					c.options.Log.Error("block not mined", "error", err)
				}
			}
		}
	})
}

// ticks returns the ticks of the mining loop, and a function that stops them.
func (o Options) ticks() (<-chan time.Time, func()) {
	switch {
	case o.Ticks != nil:
		return o.Ticks, func() {}
	case o.LiveEvery > 0:
		t := time.NewTicker(o.LiveEvery)
		return t.C, t.Stop
	default:
		return nil, func() {}
	}
}

// Close stops mining and serving and closes the database. It can be called twice.
func (c *Chain) Close() error {
	c.closeOnce.Do(func() {
		c.stop()
		c.loop.Wait()
		c.closeErr = c.stack.Close()
	})
	return c.closeErr
}

// URL is where JSON-RPC is served, such as http://127.0.0.1:8545.
func (c *Chain) URL() string { return c.stack.HTTPEndpoint() }

// ChainID is the EIP-155 chain id.
func (c *Chain) ChainID() uint64 { return c.meta.ChainID }

// Tokens are the seeded tokens.
func (c *Chain) Tokens() []Token { return SeededTokens() }

// Token is the seeded token with the given symbol.
func (c *Chain) Token(symbol string) (Token, bool) {
	for _, t := range SeededTokens() {
		if t.Symbol == symbol {
			return t, true
		}
	}
	return Token{}, false
}

// Cast is the seeded accounts.
func (c *Chain) Cast() Cast { return c.cast }

// Holders are the two demo holders, Alice and Bob.
func (c *Chain) Holders() []common.Address {
	return []common.Address{c.cast.Alice.Address, c.cast.Bob.Address}
}

// Plan is the plan of the chain's blocks.
func (c *Chain) Plan() Plan { return c.meta.plan() }

// Expected is holder's balance of asset at the block with time at according to the plan, see Plan.Balance.
func (c *Chain) Expected(holder, asset common.Address, at time.Time) *uint256.Int {
	return c.Plan().Balance(holder, asset, at)
}

// Head is the newest block.
func (c *Chain) Head() Block {
	h := c.eth.BlockChain().CurrentBlock()
	return Block{Number: h.Number.Uint64(), Hash: h.Hash(), Time: time.Unix(int64(h.Time), 0).UTC()}
}
