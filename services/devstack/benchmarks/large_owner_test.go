package benchmarks

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// heldRows are what a valuation is made of, as one would read it in SQL: every balance with its wallet, token and
// price.
const heldRows = `
	SELECT w.id, w.account, w.sync_state, w.synced_block, w.synced_at, w.sync_error, b.token_id, b.amount::text,
	       b.block_number, b.block_time, t.symbol, t.decimals, t.verified, p.price::text, p.source, p.price_time
	FROM wallets w
	JOIN balances b ON b.wallet_id = w.id AND b.amount > 0
	JOIN tokens t ON t.id = b.token_id
	LEFT JOIN prices p ON p.token_id = b.token_id
	WHERE w.owner_id = $1 AND w.archived_at IS NULL
	ORDER BY w.id, b.token_id`

// BenchmarkValuationOfALargeOwner compares GetValuation, not cached, of an owner with 300 wallets of 20 tokens with
// the same rows read in SQL: one after the other, and by eight callers at once, where ns/op is the time of a call
// among them: 40 ms are 25 calls a second.
func BenchmarkValuationOfALargeOwner(b *testing.B) {
	const wallets, tokens = 300, 20
	dir := testkit.Folder(b)
	s, err := suite.Start(b.Context(), suite.Options{Dir: dir, History: 24 * time.Hour, Extra: map[string][]string{
		"wallet":    {"PURSER_SYNC_CRON=0 0 1 1 *", "PURSER_TRANSACTIONS_CRON=0 0 1 1 *"},
		"portfolio": {"PURSER_CACHE_VALUATION_TTL=0s"}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Stop() })
	c, err := demo.Dial(s.Endpoints)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	email, password := strings.ToLower(rand.Text())+"@example.com", rand.Text()
	_, err = c.Accounts.Register(b.Context(), &authv1.RegisterRequest{Email: email, Password: password})
	if err != nil {
		b.Fatal(err)
	}
	login, err := c.Sessions.Login(b.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		b.Fatal(err)
	}
	ctx := grpcclient.WithToken(b.Context(), login.GetTokens().GetAccessToken())
	empty, err := c.Holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	owner := uuid.MustParse(empty.GetOwnerId())
	conns := make(chan *pgx.Conn, 8)
	for range cap(conns) {
		conn, err := pgx.Connect(b.Context(), s.Postgres.URL("purser_wallet"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close(context.Background()) })
		conns <- conn
	}
	conn := <-conns
	for _, statement := range []string{
		`INSERT INTO wallets (id, owner_id, account, created_at, updated_at, sync_state, synced_block, synced_at)
			SELECT gen_random_uuid(), $1, 'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now(), 'SYNCED', 1, now()
			FROM generate_series(1, $2::int) AS i`,
		`INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified)
			SELECT 'eip155:1/erc20:0x' || lpad(to_hex(i), 40, '0'), 'eip155:1', '0x' || lpad(to_hex(i), 40, '0'),
			       'TKN' || i, 'Token ' || i, 18, $1::uuid IS NOT NULL FROM generate_series(1, $2::int) AS i`,
		`INSERT INTO balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
			SELECT w.id, t.id, 123456789012345678901 + $2::int, 23000000, '\x00', now()
			FROM wallets w, tokens t WHERE owner_id = $1 AND t.symbol LIKE 'TKN%'`,
		`INSERT INTO prices (token_id, price, source, price_time, fetched_at)
			SELECT id, 1234.56789, 'llama', now() + interval '1 hour', now() + interval '1 hour'
			FROM tokens WHERE symbol LIKE 'TKN%' AND $1::uuid IS NOT NULL AND $2::int > 0`,
	} {
		n := wallets
		if strings.Contains(statement, "INTO tokens") {
			n = tokens
		}
		if _, err := conn.Exec(b.Context(), statement, owner, n); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := conn.Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	conns <- conn
	raw := func() {
		conn := <-conns
		defer func() { conns <- conn }()
		rows, err := conn.Query(b.Context(), heldRows, owner)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for rows.Next() {
			if _, err := rows.Values(); err != nil {
				b.Fatal(err)
			}
			n++
		}
		if err := rows.Err(); err != nil || n != wallets*tokens {
			b.Fatal(n, err)
		}
	}
	ours := func() {
		resp, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
		if err != nil || len(resp.GetValuation().GetPositions()) != tokens {
			b.Fatal(resp, err)
		}
	}
	b.Run("one caller", func(b *testing.B) {
		versus.Run(b, versus.Comparison{Goal: 1.3, Slow: true, Raw: raw, Ours: ours})
	})
	b.Run("eight callers", func(b *testing.B) {
		versus.Run(b, versus.Comparison{GoalTime: 40 * time.Millisecond, Workers: 8, Batch: 8, Slow: true, Raw: raw,
			Ours: ours})
	})
}
