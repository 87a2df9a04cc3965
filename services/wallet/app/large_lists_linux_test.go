package app_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// 200 wallets of 482 tokens are 11 MB in one message. Eight such lists at once took 856 MB. The memory is that of the
// program as it is deployed, without the callers.
func TestWalletsWithManyBalancesAreListedInPagesThatFit(t *testing.T) {
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(tokenList), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, "PURSER_TOKEN_LIST="+list, "PURSER_GRPC_BURST=10000")
	p.start()
	ctx := p.user(t)
	held := testkit.Size(50, 200)
	p.hold(t, ctx, held, 482)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // it is about memory, not time, also on a busy machine
	defer cancel()
	_, before := servicetest.Memory(t, p.cmd.Process.Pid)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			wallets, balances, pages, largest, err := p.listAll(ctx)
			if err != nil || wallets != held || balances != held*482 || largest > page.MaxBytes+1<<10 {
				t.Errorf("%d wallets and %d balances in %d pages of up to %d bytes: %v", wallets, balances, pages,
					largest, err)
			}
		})
	}
	all.Wait()
	_, most := servicetest.Memory(t, p.cmd.Process.Pid)
	testkit.Figure(t, "8 lists of %d wallets × 482 tokens: %d MiB of resident memory at most (goal 120), %d MiB "+
		"before", held, most>>20, before>>20)
	if most > 120<<20 {
		t.Errorf("the lists took the process to %d MiB", most>>20)
	}
}
