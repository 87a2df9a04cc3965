package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Options say where a chain lives and what it looks like. Only Dir is required.
type Options struct {
	// Dir is the folder that holds the chain. It is made if it isn't there.
	Dir string

	// Anchor is the moment where generated history ends; the default is Now().
	// It matters only at the first start: afterwards the stored chain decides.
	Anchor time.Time

	// History is how far back of Anchor the chain begins; the default is 90 days.
	// Used at the first start only.
	History time.Duration

	// BlockEvery is the spacing of generated blocks, in whole seconds up to a day;
	// the default is one hour. A stored chain can't be opened with another value.
	BlockEvery time.Duration

	// LiveEvery is the time between two blocks while the chain runs. Zero means
	// that blocks come only from Mine.
	LiveEvery time.Duration

	// HTTPAddr is host:port for JSON-RPC. The host must be a loopback address;
	// port 0 takes any free one. The default is 127.0.0.1:0.
	HTTPAddr string

	// ChainID is the EIP-155 chain id; the default is 31337.
	ChainID uint64

	// Seed picks the plan of transfers; the default is 1.
	Seed uint64

	// Reset throws a stored chain away if it was made with other options (seed,
	// chain id, spacing, or an older build) instead of failing.
	Reset bool

	// Now is the clock; the default is time.Now.
	Now func() time.Time

	// Ticks replaces the timer behind LiveEvery: a block is mined per value
	// received. For tests.
	Ticks <-chan time.Time

	// Log receives the node's log, with go-ethereum's Info demoted to Debug. The
	// default discards it.
	Log *slog.Logger

	// Progress, if set, is told after every batch of generated blocks how many of
	// this start's blocks are done.
	Progress func(done, total int)

	// freeSpace reports the bytes free for Dir.
	freeSpace func(dir string) (uint64, error)
}

const (
	defaultHistory    = 90 * 24 * time.Hour
	defaultBlockEvery = time.Hour
	defaultChainID    = 31337
	defaultSeed       = 1
	defaultHTTPAddr   = "127.0.0.1:0"
)

// complete fills in defaults and refuses what can't work.
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
		return fmt.Errorf("chain: BlockEvery is %s, want whole seconds up to a day", o.BlockEvery)
	case o.History < o.BlockEvery:
		return fmt.Errorf("chain: History is %s, want at least one block of %s", o.History, o.BlockEvery)
	case o.LiveEvery < 0:
		return fmt.Errorf("chain: LiveEvery is %s, want zero or more", o.LiveEvery)
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

// loopback splits addr and refuses any host that isn't a loopback address: the
// keys of this chain are public.
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
