package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// streamed is all that StreamTransactions returns of an owner.
func streamed(ctx context.Context, c walletv1.TransactionServiceClient, owner string) (all []*walletv1.Movement,
	tokens int, err error) {
	stream, err := c.StreamTransactions(ctx, &walletv1.StreamTransactionsRequest{OwnerId: owner})
	if err != nil {
		return nil, 0, err
	}
	whole := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && whole {
			return all, tokens, nil
		}
		if err != nil {
			return nil, 0, err
		}
		all, tokens, whole = append(all, m.GetMovements()...), tokens+len(m.GetTokens()), m.MovementCount != nil
		if whole && m.GetMovementCount() != int64(len(all)) {
			return nil, 0, fmt.Errorf("%d movements, it says %d", len(all), m.GetMovementCount())
		}
	}
}

// Every movement of an owner is there once, oldest first, with the price of its hour, and nobody else's.
func TestAllMovementsOfAnOwnerAreStreamedWithTheirPrices(t *testing.T) {
	t.Parallel()
	s, transactions := startOnNode(t, "http://127.0.0.1:1")
	user := uuid.New()
	ctx := s.issuer.As(t, user, servicetest.Permissions("wallet:read", "wallet:write"))
	const n = 1207 // more than two messages
	first := time.Date(2024, 1, 1, 0, 30, 0, 0, time.UTC)
	s.exec(t, `INSERT INTO tokens (id, chain, symbol, name, decimals, verified)
		VALUES ('eip155:1/slip44:60', 'eip155:1', 'ETH', 'Ether', 18, true) ON CONFLICT DO NOTHING`)
	var wallets []string
	for _, account := range []string{"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
		"0x00000000000000000000000000000000000000a1"} {
		w, err := s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: "eip155:1:" + account})
		if err != nil {
			t.Fatal(err)
		}
		wallets = append(wallets, w.GetWallet().GetId())
	}
	// Each wallet has them at the same times; every third hour has a price, every fourth is known to have none.
	for _, w := range wallets {
		s.exec(t, fmt.Sprintf(`
			INSERT INTO transactions (wallet_id, block_number, transaction_index, log_index, token_id,
				kind, amount, counterparty, hash, block_hash, block_time)
			SELECT '%s', i, 0, 0, 'eip155:1/slip44:60', 'TRANSFER', i, '0x00000000000000000000000000000000000000a1',
				decode(lpad(to_hex(i), 64, '0'), 'hex'), '\x00', '%s'::timestamptz + i * interval '1 hour'
			FROM generate_series(1, %d) AS i`, w, first.Format(time.RFC3339), n))
	}
	s.exec(t, fmt.Sprintf(`INSERT INTO price_history (token_id, hour, price, source, price_time, fetched_at)
		SELECT 'eip155:1/slip44:60', h, CASE i %% 3 WHEN 0 THEN i + 0.5 END,
			CASE i %% 3 WHEN 0 THEN 'test' ELSE '' END,
		       CASE i %% 3 WHEN 0 THEN h - interval '1 minute' * (i %% 2) * 600 END,
		       CASE i %% 5 WHEN 0 THEN timestamptz 'epoch' ELSE now() END
		FROM (SELECT i, date_trunc('hour', '%s'::timestamptz + i * interval '1 hour') AS h
		      FROM generate_series(1, %d) AS i) AS hours
		WHERE i %% 3 = 0 OR i %% 4 = 0`, first.Format(time.RFC3339), n))
	all, tokens, err := streamed(ctx, transactions, "")
	if err != nil || len(all) != 2*n || tokens != 1 {
		t.Fatalf("%d movements, %d tokens, %v", len(all), tokens, err)
	}
	seen := map[string]bool{}
	for i, m := range all {
		k := i/2 + 1
		key := m.GetWalletId() + m.GetTransactionHash()
		if seen[key] || m.GetAmount() != fmt.Sprint(k) ||
			m.GetBlockTime().AsTime() != first.Add(time.Duration(k)*time.Hour) {
			t.Fatalf("movement %d is %v", i, m)
		}
		seen[key] = true
		price, unread, stale := "", true, false
		switch {
		case k%5 == 0: // to be read again
		case k%3 == 0:
			price, unread, stale = fmt.Sprintf("%d.5", k), false, k%2 == 1
		case k%4 == 0:
			unread = false
		}
		if m.GetPrice() != price || m.GetPriceUnread() != unread || m.GetPriceStale() != stale {
			t.Fatalf("the price of hour %d is %q, unread %t, stale %t", k, m.GetPrice(), m.GetPriceUnread(),
				m.GetPriceStale())
		}
		own := m.GetCounterpartyWalletId()
		if m.GetWalletId() == wallets[0] != (own == wallets[1]) {
			t.Fatalf("counterparty %q of %v", own, m)
		}
	}
	other := s.issuer.As(t, uuid.New(), servicetest.Permissions("wallet:read"))
	if all, _, err := streamed(other, transactions, ""); err != nil || len(all) != 0 {
		t.Errorf("another user has %d, %v", len(all), err)
	}
	_, _, err = streamed(other, transactions, user.String())
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	service := s.issuer.As(t, uuid.New(), servicetest.Permissions("wallet:read", "wallet:any"))
	if all, _, err := streamed(service, transactions, user.String()); err != nil || len(all) != 2*n {
		t.Errorf("a service has %d, %v", len(all), err)
	}
}
