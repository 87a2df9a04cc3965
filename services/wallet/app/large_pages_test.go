package app_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
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
	_, most := servicetest.Memory(t, os.Getpid())
	return most
}
