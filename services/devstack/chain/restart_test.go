package chain_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/devstack/chain"
)

func TestTheSameOptionsGiveTheSameChain(t *testing.T) {
	t.Parallel()
	first, second := shared(t), start(t, nil)
	if first.Head() != second.Head() {
		t.Errorf("heads differ: %+v and %+v", first.Head(), second.Head())
	}
	if first.Head().Number != 48 || !first.Head().Time.Equal(anchor()) {
		t.Errorf("head is %+v, want block 48 at %s", first.Head(), anchor())
	}
	base := start(t, withShortHistory)
	for what, change := range map[string]func(*chain.Options){
		"seed":     func(o *chain.Options) { o.Seed = 2 },
		"chain id": func(o *chain.Options) { o.ChainID = 1338 },
		"anchor":   func(o *chain.Options) { o.Anchor = anchor().Add(-time.Hour) },
		"history":  func(o *chain.Options) { o.History = shortHistory - time.Hour },
	} {
		other := start(t, func(o *chain.Options) {
			withShortHistory(o)
			change(o)
		})
		if other.Head().Hash == base.Head().Hash {
			t.Errorf("another %s gives the same chain", what)
		}
	}
}

// TestTheChainMatchesItsFormat compares the head's hash with a recorded one. If it fails because contracts, plan or
// genesis have changed, raise seedFormat: a stored chain of the old format cannot be continued.
func TestTheChainMatchesItsFormat(t *testing.T) {
	t.Parallel()
	const want = "0xaa84b0d6a7d8d26937c213813a1230b29e5606718229834e7e24a80827ef10ab"
	if have := shared(t).Head().Hash.Hex(); have != want {
		t.Errorf("head is %s, want %s", have, want)
	}
}

func TestARestartKeepsHistoryAndFillsThePauseWithHourlyBlocks(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), newClock(anchor())
	options := func(o *chain.Options) { o.Dir, o.Now, o.Anchor = dir, now.Now, now.Now() }
	c := start(t, options)
	before := c.Head()
	to := common.HexToAddress("0x00000000000000000000000000000000000000a3")
	if _, err := c.Fund(t.Context(), to, chain.Native(),
		c.Expected(c.Cast().Alice.Address, chain.Native(), anchor())); err != nil {
		t.Fatal(err)
	}
	mine(t, c)
	funded := c.Head()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	now.Advance(3 * 24 * time.Hour) // the anchor moves too, and must not matter
	c = start(t, options)
	r := dial(t, c)
	if head := c.Head(); head.Number != funded.Number+3*24 || !head.Time.Equal(now.Now()) {
		t.Errorf("head is %+v, want %d hourly blocks up to %s", head, 3*24, now.Now())
	}
	for _, old := range []chain.Block{before, funded} {
		header, err := r.HeaderByNumber(t.Context(), new(big.Int).SetUint64(old.Number))
		if err != nil || header.Hash() != old.Hash {
			t.Errorf("block %d is %v (%v), was %s", old.Number, header.Hash(), err, old.Hash)
		}
	}
	if r.balance(to, chain.Native(), nil).IsZero() {
		t.Error("a transfer from before the restart is gone")
	}
	old := new(big.Int).SetUint64(before.Number)
	for symbol, asset := range assets(c) {
		for _, holder := range c.Holders() {
			if have, want := r.balance(holder, asset, old), c.Expected(holder, asset, before.Time); !have.Eq(want) {
				t.Errorf("before the restart %s had %s %s, the plan says %s", holder, have, symbol, want)
			}
			if have, want := r.balance(holder, asset, nil), c.Expected(holder, asset, now.Now()); !have.Eq(want) {
				t.Errorf("%s has %s %s, the plan says %s", holder, have, symbol, want)
			}
		}
	}
}

// interruptedHistory is two batches of blocks, so that the first start can be interrupted between them.
const interruptedHistory = 132 * time.Hour

func TestAnInterruptedFirstStartIsContinued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	longer := func(o *chain.Options) { o.Dir, o.History = dir, interruptedHistory }
	ctx, cancel := context.WithCancel(t.Context())
	o := chain.Options{Anchor: anchor(), Now: newClock(anchor()).Now, Progress: func(int, int) { cancel() }}
	longer(&o)
	if _, err := chain.Start(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("have %v, want a cancelled start", err)
	}
	whole := start(t, func(o *chain.Options) { o.History = interruptedHistory })
	if c := start(t, longer); c.Head() != whole.Head() {
		t.Errorf("carried on to %+v, in one go %+v", c.Head(), whole.Head())
	}
}

func TestAFolderOfAnotherChainIsRefusedUnlessReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, func(o *chain.Options) { o.Dir, o.History = dir, shortHistory })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	other := chain.Options{Dir: dir, Anchor: anchor(), Now: newClock(anchor()).Now, History: history, ChainID: 1338}
	_, err := chain.Start(t.Context(), other)
	if err == nil || !strings.Contains(err.Error(), "chain id 31337") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("have %v, want one line that names the stored chain id", err)
	}
	if again := start(t, func(o *chain.Options) { o.Dir, o.History = dir, shortHistory }); again.Head() != c.Head() {
		t.Error("the refusal changed the stored chain")
	} else if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	reset := start(t, func(o *chain.Options) { o.Dir, o.ChainID, o.Reset, o.History = dir, 1338, true, shortHistory })
	if reset.ChainID() != 1338 {
		t.Errorf("chain id is %d after a reset", reset.ChainID())
	}
}

func TestAChainWithoutItsDescriptionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := start(t, func(o *chain.Options) { o.Dir, o.History = dir, shortHistory }).Close(); err != nil {
		t.Fatal(err)
	}
	description := filepath.Join(dir, "node", "purser-chain.json")
	for what, spoil := range map[string]func() error{
		"broken": func() error { return os.WriteFile(description, []byte("{"), 0o600) },
		"gone":   func() error { return os.RemoveAll(description) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		_, err := chain.Start(t.Context(), chain.Options{Dir: dir, Anchor: anchor(), Now: newClock(anchor()).Now})
		if err == nil || !strings.Contains(err.Error(), "purser-chain.json") {
			t.Errorf("%s: %v, want an error that names the file", what, err)
		}
	}
}

func TestOptionsThatCantWorkAreRefused(t *testing.T) {
	for want, o := range map[string]chain.Options{
		"Dir is empty": {},
		"BlockEvery":   {Dir: t.TempDir(), BlockEvery: 1500 * time.Millisecond},
		"History":      {Dir: t.TempDir(), History: time.Minute},
		"LiveEvery":    {Dir: t.TempDir(), LiveEvery: -1},
		"before 1970":  {Dir: t.TempDir(), Anchor: time.Unix(3600, 0)},
	} {
		if _, err := chain.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAFolderInUseIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, func(o *chain.Options) { o.Dir, o.History = dir, shortHistory })
	_, err := chain.Start(t.Context(), chain.Options{Dir: dir, Anchor: anchor(), Now: newClock(anchor()).Now})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("have %v", err)
	}
}

// childDir makes this test binary a child that runs a chain in the folder named by
// the variable, until it is killed.
const childDir = "PURSER_CHAIN_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := mineUntilKilled(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// mineUntilKilled prints each head after it is stored.
func mineUntilKilled(dir string, out io.Writer) error {
	now := newClock(anchor())
	c, err := chain.Start(context.Background(),
		chain.Options{Dir: dir, Anchor: anchor(), Now: now.Now, History: history})
	if err != nil {
		return err
	}
	for {
		fmt.Fprintln(out, c.Head().Number, c.Head().Hash)
		now.Advance(20 * time.Minute)
		if err := c.Mine(context.Background()); err != nil {
			return err
		}
	}
}

func TestAKilledChainOpensAgainWithEveryBlockItReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round, lines := range []int{1, 40} {
		number, hash := killAfter(t, dir, lines)
		c := start(t, func(o *chain.Options) { o.Dir = dir })
		r := dial(t, c)
		header, err := r.HeaderByNumber(t.Context(), new(big.Int).SetUint64(number))
		if err != nil || header.Hash() != hash {
			t.Fatalf("round %d: block %d: %v, want %s", round, number, err, hash)
		}
		head := c.Head()
		for symbol, asset := range assets(c) {
			for _, holder := range c.Holders() {
				if have, want := r.balance(holder, asset, nil), c.Expected(holder, asset, head.Time); !have.Eq(want) {
					t.Errorf("round %d: %s has %s %s, the plan says %s", round, holder, have, symbol, want)
				}
			}
		}
		mine(t, c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter runs a child in dir, kills it when it has printed so many heads, and
// returns the last one read.
func killAfter(t *testing.T, dir string, lines int) (number uint64, hash common.Hash) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for range lines {
		if !scanner.Scan() {
			t.Fatalf("the child ended by itself: %v", cmd.Wait())
		}
		var hex string
		if _, err := fmt.Sscan(scanner.Text(), &number, &hex); err != nil {
			t.Fatal(err)
		}
		hash = common.HexToHash(hex)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return number, hash
}
