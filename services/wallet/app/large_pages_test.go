package app_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// hold gives a user wallets that each hold this many tokens.
func (s service) hold(t *testing.T, ctx context.Context, wallets, tokens int) {
	t.Helper()
	owner := servicetest.UserID(ctx, t)
	s.exec(t, `INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified)
		SELECT 'eip155:1/erc20:0x' || lpad(to_hex(i), 40, '0'), 'eip155:1', '0x' || lpad(to_hex(i), 40, '0'),
		       'TKN' || i, 'A token with a name ' || i, 18, true
		FROM generate_series(1, $1) AS i ON CONFLICT DO NOTHING`, tokens)
	s.exec(t, `INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, $1::uuid,
		       'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now()
		FROM generate_series(1, $2) AS i`, owner, wallets)
	for i := 1; i <= wallets; i += 10 { // a statement has little time
		s.exec(t, `INSERT INTO balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
			SELECT w.id, t.id, 123456789012345678901, 23000000, '\x00', now()
			FROM generate_series($2::int, $2::int + 9) AS i
			JOIN wallets w ON w.id = ('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid
				AND w.owner_id = $1::uuid
			CROSS JOIN tokens t WHERE t.symbol LIKE 'TKN%'`, owner, i)
	}
}

// listAll reads all pages of the wallets with balances, and returns how many of both there are.
func (s service) listAll(ctx context.Context) (wallets, balances, pages, largest int, err error) {
	seen := map[string]bool{}
	for token := ""; ; {
		resp, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{PageSize: 200, PageToken: token,
			View: walletv1.WalletView_WALLET_VIEW_WITH_BALANCES})
		if err != nil {
			return 0, 0, 0, 0, err
		}
		pages, largest = pages+1, max(largest, proto.Size(resp))
		for _, w := range resp.GetWallets() {
			if seen[w.GetId()] {
				return 0, 0, 0, 0, fmt.Errorf("wallet %s is there twice", w.GetId())
			}
			seen[w.GetId()] = true
			balances += len(w.GetBalances())
		}
		if token = resp.GetNextPageToken(); token == "" {
			return len(seen), balances, pages, largest, nil
		}
	}
}

// inOwnProcess runs the test again in a process of its own, which has nothing of other tests in its memory. It returns
// true in that process.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const own = "PURSER_TEST_IN_OWN_PROCESS"
	if os.Getenv(own) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), own+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("the test didn't run:\n%s", out)
	}
	t.Log(string(out))
	return false
}

// 200 wallets of 482 tokens are 11 MB in one message. Eight such lists at once took 856 MB.
func TestWalletsWithManyBalancesAreListedInPagesThatFit(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	db, issuer := testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t)
	s := replica(t, db, issuer, testkit.Redis(t).URL(), tokenList, io.Discard)
	ctx := s.user(t)
	s.hold(t, ctx, 200, 482)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // it is about memory, not time, also on a busy machine
	defer cancel()
	debug.FreeOSMemory()
	resetPeak(t)
	before := peak(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			wallets, balances, pages, largest, err := s.listAll(ctx)
			if err != nil || wallets != 200 || balances != 200*482 || largest > page.MaxBytes+1<<10 {
				t.Errorf("%d wallets and %d balances in %d pages of up to %d bytes: %v", wallets, balances, pages,
					largest, err)
			}
		})
	}
	all.Wait()
	t.Logf("8 lists of 200 wallets × 482 tokens: %d MB of resident memory at most, %d MB before, with the callers "+
		"and the test in the same process", peak(t)>>20, before>>20)
	if most := int64(120 << 20); peak(t) > most && !raceEnabled {
		t.Errorf("the lists took the process to %d MB", peak(t)>>20)
	}
}

func TestAWalletWithTooManyBalancesForAListIsToldOf(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	s.hold(t, ctx, 2, 4001)
	_, _, _, _, err := s.listAll(ctx)
	servicetest.WantError(t, err, errs.KindExhausted, "TOO_MANY_BALANCES")
	found := 0
	for token := ""; ; {
		resp, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{PageSize: 500, PageToken: token,
			WalletId: "01900000-0000-7000-8000-000000000001"})
		if err != nil {
			t.Fatal(err)
		}
		found += len(resp.GetBalances())
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	if found != 4001 {
		t.Errorf("ListBalances has %d", found)
	}
}

// resetPeak starts the measurement of peak anew.
func resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("this system doesn't measure the memory of a process: %v", err)
	}
}

// peak is the most resident memory that the process has had.
func peak(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
