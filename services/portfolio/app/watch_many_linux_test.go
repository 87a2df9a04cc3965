package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// newProgram runs the service as a process of its own, without Redis, until the test ends.
func newProgram(t *testing.T, db *testkit.DB, i *servicetest.Issuer, settings []string) (addr string, pid int) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "portfolio")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin, "../cmd/portfolio").
		CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(bin, "serve")
	cmd.Env = append(slices.Clone(settings), "PURSER_DATABASE_URL="+db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis,
		"PURSER_ISSUER="+i.URL, "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_ADDR="+addr, "PATH="+os.Getenv("PATH"),
		"HOME="+t.TempDir())
	var logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &logs, &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(logs.String()[max(0, logs.Len()-4000):])
		}
	})
	return addr, cmd.Process.Pid
}

// counted is a stream of which only the last total and the number of valuations are kept.
type counted struct {
	owner  string
	total  atomic.Pointer[string]
	states atomic.Int64
}

// A thousand owners watch one process, as it is deployed. What half of them hold changes, ten times each: their
// streams come to the last state, and the others have no message and no read of their holdings. Then a price changes,
// for all.
func TestAThousandWatchersOfOneProcess(t *testing.T) {
	owners := testkit.Size(600, 1000) // few begin without having to take turns
	db, issuer, w := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), newLiveWallet()
	walletAddr, account := serveLive(t, issuer, w)
	addr, pid := newProgram(t, db, issuer, append(account, "PURSER_WALLET_ADDR="+walletAddr,
		"PURSER_WALLET_PLAINTEXT=true", "PURSER_WATCH_PRICES_EVERY=1s"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var clients []portfoliov1.PortfolioServiceClient
	for range 4 { // a connection has at most 1000 streams
		conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients = append(clients, portfoliov1.NewPortfolioServiceClient(conn))
	}
	token := func() (string, context.Context) {
		user := uuid.New()
		return user.String(), grpcclient.WithToken(ctx, issuer.Token(t, user,
			servicetest.Permissions("portfolio:read", "wallet:read")))
	}
	_, first := token()
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := clients[0].GetPortfolio(first, &portfoliov1.GetPortfolioRequest{})
		return err == nil
	})
	before, _ := servicetest.Memory(t, pid)
	begun := time.Now()
	all := make([]*counted, owners)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for i := range all {
		owner, as := token()
		s := &counted{owner: owner}
		all[i] = s
		stream, err := clients[i%len(clients)].WatchValuation(as, &portfoliov1.WatchValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			for {
				m, err := stream.Recv()
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("a stream ended: %v", err)
					}
					return
				}
				if v := m.GetValuation(); v != nil {
					total := v.GetTotal()
					s.total.Store(&total)
					s.states.Add(1)
				}
			}
		})
	}
	// have waits until streams have come to their totals, and returns how long that took.
	have := func(streams []*counted, total func(i int) string) time.Duration {
		t.Helper()
		begun := time.Now()
		for i, s := range streams {
			testkit.Eventually(t, 2*time.Minute, func() bool {
				got := s.total.Load()
				return got != nil && *got == total(i)
			})
		}
		return time.Since(begun)
	}
	opened := have(all, func(int) string { return "10.00000000" })
	open, _ := servicetest.Memory(t, pid)

	changing, quiet := all[:owners/2], all[owners/2:]
	reads := map[string]int{}
	for _, s := range all {
		reads[s.owner] = w.readsOf(s.owner)
	}
	const changes = 10
	for n := range changes {
		for i, s := range changing {
			w.hold(strconv.Itoa(100+changes*i+n), s.owner)
		}
	}
	changed := have(changing, func(i int) string { return fmt.Sprintf("%d.00000000", 10*(100+changes*i+changes-1)) })
	messages := int64(0)
	for _, s := range changing {
		messages += s.states.Load() - 1
		if w.readsOf(s.owner) == reads[s.owner] {
			t.Fatal("the holdings of an owner whose changed were not read: nothing is proven by those of the others")
		}
	}
	for _, s := range quiet {
		if n := s.states.Load(); n != 1 || *s.total.Load() != "10.00000000" {
			t.Fatalf("an owner without a change has %d states, the last of %s", n, *s.total.Load())
		}
		// Later each stream looks for itself once.
		if n := w.readsOf(s.owner); n != reads[s.owner] && time.Since(begun) < 80*time.Second {
			t.Fatalf("the holdings of an owner without a change were read %d times", n-reads[s.owner])
		}
	}
	w.with(func() { w.price = "20" })
	priced := have(quiet, func(int) string { return "20.00000000" })
	after, most := servicetest.Memory(t, pid)
	testkit.Figure(t, "%d watchers: opened in %s; %d changes in %d messages after %s; a price in all after %s",
		owners, opened.Round(time.Millisecond), changes*len(changing), messages, changed.Round(time.Millisecond),
		priced.Round(time.Millisecond))
	testkit.Figure(t, "resident memory of the process: %d MiB without watchers, %d MiB with %d, %d MiB at the end, "+
		"%d MiB at most (goal: 160 KiB a watcher)", before>>20, open>>20, owners, after>>20, most>>20)
	if grown := most - before; grown > 32<<20+int64(owners)*160<<10 {
		t.Errorf("the process has grown by %d MiB", grown>>20)
	}
}
