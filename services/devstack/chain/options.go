package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Options of a chain. Only Dir is required.
type Options struct {
	// Dir is the folder of the chain. It is created if missing.
	Dir string

	// Anchor is the end of the generated history; the default is Now(). It is used at the first start only.
	Anchor time.Time

	// History is the length of the generated history before Anchor; the default is 90 days. It is used at the first
	// start only.
	History time.Duration

	// BlockEvery is the interval of generated blocks, in whole seconds up to a day; the default is one hour. A stored
	// chain cannot be opened with another value.
	BlockEvery time.Duration

	// LiveEvery is the time between two blocks while the chain runs. With zero only Mine makes blocks.
	LiveEvery time.Duration

	// HTTPAddr is the loopback address for JSON-RPC; port 0 lets the system choose. The default is 127.0.0.1:0.
	HTTPAddr string

	// ChainID is the EIP-155 chain id; the default is 31337.
	ChainID uint64

	// Seed of the plan of transfers; the default is 1.
	Seed uint64

	// Defi adds the contracts and positions of Markets, with a transaction a day. Without it the blocks are
	// those of a chain that knows nothing of them. A stored chain goes on as it was made.
	Defi bool

	// Reset deletes a stored chain that was made with other options (seed, chain id, interval, or an older build)
	// instead of failing.
	Reset bool

	// Now is the clock; the default is time.Now.
	Now func() time.Time

	// Ticks replaces the timer behind LiveEvery: a block is mined per value
	// received. For tests.
	Ticks <-chan time.Time

	// Log receives the node's log, with go-ethereum's Info as Debug. The default discards it.
	Log *slog.Logger

	// Progress, if set, is called after every batch of blocks that a start generates.
	Progress func(done, total int)

	// freeSpace returns the free bytes of Dir's file system.
	freeSpace func(dir string) (uint64, error)
}

const (
	defaultHistory    = 90 * 24 * time.Hour
	defaultBlockEvery = time.Hour
	defaultChainID    = 31337
	defaultSeed       = 1
	defaultHTTPAddr   = "127.0.0.1:0"
)

// complete sets defaults and validates the options.
func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("chain: Dir is empty")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Anchor.IsZero() {
		o.Anchor = o.Now()
	}
	if o.History == 0 {
		o.History = defaultHistory
	}
	if o.BlockEvery == 0 {
		o.BlockEvery = defaultBlockEvery
	}
	if o.ChainID == 0 {
		o.ChainID = defaultChainID
	}
	if o.Seed == 0 {
		o.Seed = defaultSeed
	}
	if o.HTTPAddr == "" {
		o.HTTPAddr = defaultHTTPAddr
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	if o.freeSpace == nil {
		o.freeSpace = freeSpace
	}
	return o, o.validate()
}

func (o Options) validate() error {
	switch {
	case o.BlockEvery < time.Second || o.BlockEvery > 24*time.Hour || o.BlockEvery%time.Second != 0:
		return fmt.Errorf("chain: BlockEvery is %s, must be whole seconds up to a day", o.BlockEvery)
	case o.History < o.BlockEvery:
		return fmt.Errorf("chain: History is %s, must be at least one block of %s", o.History, o.BlockEvery)
	case o.LiveEvery < 0:
		return fmt.Errorf("chain: LiveEvery is %s, must be zero or more", o.LiveEvery)
	case o.start().Unix() <= 0:
		return fmt.Errorf("chain: history would begin at %s, before 1970", o.start())
	}
	_, _, err := loopback(o.HTTPAddr)
	return err
}

// start is the time of the genesis block of a new chain.
func (o Options) start() time.Time {
	return truncate(truncate(o.Anchor, o.BlockEvery).Add(-o.History), o.BlockEvery)
}

// truncate rounds t down to a multiple of every since 1970, in UTC.
func truncate(t time.Time, every time.Duration) time.Time {
	seconds := int64(every / time.Second)
	return time.Unix(t.Unix()/seconds*seconds, 0).UTC()
}

// loopback splits addr, which must be a loopback address: the keys of this chain are public.
func loopback(addr string) (host string, port int, err error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return "", 0, fmt.Errorf("chain: HTTPAddr: %w", err)
	}
	if !tcp.IP.IsLoopback() {
		return "", 0, fmt.Errorf("chain: HTTPAddr %q is not a loopback address", addr)
	}
	return tcp.IP.String(), tcp.Port, nil
}
