package suitetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/port"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

// command is a running devstack program.
type command struct {
	cmd            *exec.Cmd
	lines          *bufio.Scanner
	output, stderr bytes.Buffer
}

func devstack(t *testing.T, dir string, port int, settings ...string) *command {
	t.Helper()
	c := &command{cmd: exec.Command(filepath.Join(builtPrograms(t), "devstack"))}
	c.cmd.Dir = testkit.Folder(t)
	c.cmd.Env = append(append(os.Environ(), "PURSER_DEV_DIR="+dir, fmt.Sprintf("PURSER_DEV_PORT=%d", port)),
		settings...)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = &c.stderr
	c.lines = bufio.NewScanner(out)
	c.lines.Buffer(nil, 1<<20)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// until reads the output up to a line with this text, or to its end.
func (c *command) until(text string) bool {
	for c.lines.Scan() {
		c.output.WriteString(c.lines.Text() + "\n")
		if text != "" && strings.Contains(c.lines.Text(), text) {
			return true
		}
	}
	return false
}

// fails waits for a program whose start fails, and returns its error output.
func (c *command) fails(t *testing.T) string {
	t.Helper()
	c.until("")
	if err := c.cmd.Wait(); err == nil {
		t.Fatalf("it started:\n%s", c.output.String())
	}
	for line := range strings.SplitSeq(c.stderr.String(), "\n") {
		if complaint, ok := strings.CutPrefix(line, "devstack: "); ok {
			return complaint
		}
	}
	t.Fatalf("no complaint in:\n%s%s", c.output.String(), c.stderr.String())
	return ""
}

const up = "purser.auth.v1.SessionService/Login"

func TestTheSuiteSurvivesRestartsKillsAndBusyPorts(t *testing.T) {
	t.Parallel()
	dir, base := testkit.Folder(t), freePorts(t)
	first := devstack(t, dir, base)
	if !first.until(up) {
		t.Fatalf("it did not come up:\n%s", first.output.String())
	}

	if got := devstack(t, dir, base).fails(t); !strings.Contains(got,
		fmt.Sprintf("another suite (pid %d) uses", first.cmd.Process.Pid)) {
		t.Errorf("a second one on the same data says %q", got)
	}
	if got := devstack(t, testkit.Folder(t), base).fails(t); !strings.Contains(got,
		fmt.Sprintf("port %d (auth) is in use", base+1)) {
		t.Errorf("one on the same ports says %q", got)
	}

	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	second := devstack(t, dir, base)
	if !second.until(up) {
		t.Fatalf("it did not come up after a SIGKILL:\n%s", second.output.String())
	}
	if !strings.Contains(second.output.String(), "0 added, 2 in total") {
		t.Errorf("the second run did not find the first one's wallets:\n%s", second.output.String())
	}
	if err := second.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	second.until("")
	if err := second.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v\n%s", err, second.output.String())
	}
	if port.Used(t.Context(), base+7) {
		t.Error("after Ctrl-C the database still runs")
	}
}

// triedPorts counts the bases that freePorts has tried, so that parallel tests get different ports.
var triedPorts atomic.Int64

// freePorts finds a port with eleven unused ports after it, below the range of ports that the system chooses from.
func freePorts(t *testing.T) int {
	t.Helper()
	const lowest, highest = 21600, 32000
	for {
		base := lowest + 12*int(triedPorts.Add(1)-1)
		if base >= highest {
			t.Fatal("no eleven free ports in a row")
		}
		used := false
		for p := base + 1; p <= base+11; p++ {
			used = used || port.Used(t.Context(), p)
		}
		if !used {
			return base
		}
	}
}

func TestDataOfAnOlderSchemaIsMigrated(t *testing.T) {
	t.Parallel()
	dir := testkit.Folder(t)
	b, err := suite.StartInfrastructure(t.Context(), suite.Options{Dir: dir, History: history, Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	older := olderMigrations(t)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: b.Postgres.RoleURL("purser_wallet", "purser_wallet")})
	if err != nil {
		t.Fatal(err)
	}
	if len(older) > 0 {
		if err := postgres.Migrate(t.Context(), db, older); err != nil {
			t.Fatal(err)
		}
	}
	_ = db.Close()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	s := start(t, func(o *suite.Options) { o.Dir, o.Durable = dir, true })
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	tokens, err := c.Tokens.ListTokens(ctx, &walletv1.ListTokensRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{tokens.GetTokens()[0].GetId()}
	if _, err := c.Prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: ids}); err != nil {
		t.Errorf("prices: %v", err)
	}
}

// olderMigrations are wallet's migrations but the newest: none while there is one.
func olderMigrations(t *testing.T) fstest.MapFS {
	t.Helper()
	all := walletapp.Migrations().Files
	names, err := fs.Glob(all, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	slices.Sort(names)
	older := fstest.MapFS{}
	for _, name := range names[:len(names)-1] {
		data, err := fs.ReadFile(all, name)
		if err != nil {
			t.Fatal(err)
		}
		older[name] = &fstest.MapFile{Data: data}
	}
	return older
}
