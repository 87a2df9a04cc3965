package chain_test

import (
	"context"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/chain"
)

// anchor is the end of history in these tests, on the hour.
func anchor() time.Time { return time.Date(2026, time.March, 14, 15, 0, 0, 0, time.UTC) }

// history is long enough for Bob to have sent away his LINK.
const history = 48 * time.Hour

// shortHistory is enough for tests that only need the accounts and tokens of block 1.
const shortHistory = 3 * time.Hour

func withShortHistory(o *chain.Options) { o.History = shortHistory }

// clock is a clock that stands still until it is advanced.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock(at time.Time) *clock { return &clock{now: at} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start runs a chain with two days of history in a new folder; change may set other options.
func start(t *testing.T, change func(*chain.Options)) *chain.Chain {
	t.Helper()
	o := chain.Options{
		Dir:     t.TempDir(),
		Anchor:  anchor(),
		History: history,
		Now:     newClock(anchor()).Now,
	}
	if change != nil {
		change(&o)
	}
	c, err := chain.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// sharedChain is the chain that start makes by default, for all tests that only read.
var sharedChain = sync.OnceValues(func() (*chain.Chain, error) {
	dir, remove, err := testkit.MakeFolder()
	if err != nil {
		return nil, err
	}
	removeShared = remove
	return chain.Start(context.Background(),
		chain.Options{Dir: dir, Anchor: anchor(), History: history, Now: newClock(anchor()).Now})
})

// removeShared removes the folder of sharedChain; nil before it is started.
var removeShared func() error

// shared returns a running chain. Tests must neither send to it nor mine on it.
func shared(t *testing.T) *chain.Chain {
	t.Helper()
	c, err := sharedChain()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closeShared ends sharedChain, if a test has started it.
func closeShared() error {
	if removeShared == nil {
		return nil
	}
	c, err := sharedChain()
	if err == nil {
		err = c.Close()
	}
	return errors.Join(err, removeShared())
}

// reader reads a chain over JSON-RPC, as the wallet service does.
type reader struct {
	*ethclient.Client
	t     *testing.T
	erc20 chain.Artifact
}

func dial(t *testing.T, c *chain.Chain) reader {
	t.Helper()
	client, err := ethclient.DialContext(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return reader{client, t, artifact(t, "ERC20")}
}

func artifact(t *testing.T, name string) chain.Artifact {
	t.Helper()
	a, err := chain.LoadArtifact(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// balance is holder's balance at a block (nil is the newest).
func (r reader) balance(holder, asset common.Address, block *big.Int) *uint256.Int {
	r.t.Helper()
	if asset == chain.Native() {
		wei, err := r.BalanceAt(r.t.Context(), holder, block)
		if err != nil {
			r.t.Fatal(err)
		}
		return uint256.MustFromBig(wei)
	}
	var out *big.Int
	r.call(asset, block, &out, "balanceOf", holder)
	return uint256.MustFromBig(out)
}

// call calls a method of a token and stores its one result in out.
func (r reader) call(token common.Address, block *big.Int, out any, method string, args ...any) {
	r.t.Helper()
	input, err := r.erc20.ABI.Pack(method, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := r.CallContract(r.t.Context(), ethereum.CallMsg{To: &token, Data: input}, block)
	if err != nil {
		r.t.Fatalf("%s at block %v: %v", method, block, err)
	}
	if err := r.erc20.ABI.UnpackIntoInterface(out, method, raw); err != nil {
		r.t.Fatal(err)
	}
}

// assets is ether and every seeded token, by symbol.
func assets(c *chain.Chain) map[string]common.Address {
	all := map[string]common.Address{"ETH": chain.Native()}
	for _, token := range c.Tokens() {
		all[token.Symbol] = token.Address
	}
	return all
}

func token(t *testing.T, c *chain.Chain, symbol string) chain.Token {
	t.Helper()
	token, ok := c.Token(symbol)
	if !ok {
		t.Fatalf("no token %s", symbol)
	}
	return token
}

func mine(t *testing.T, c *chain.Chain) {
	t.Helper()
	if err := c.Mine(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}
