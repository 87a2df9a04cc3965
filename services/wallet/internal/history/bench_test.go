package history_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// everyHour is how the past was stored first: a row of each wallet and of each balance in each hour.
const everyHour = `
	CREATE TABLE first_wallet_history (
	    wallet_id uuid NOT NULL REFERENCES wallets (id) ON DELETE CASCADE, hour timestamptz NOT NULL,
	    block_number bigint NOT NULL, block_hash bytea NOT NULL, block_time timestamptz, asset_count integer NOT NULL,
	    unread text NOT NULL DEFAULT '', read_at timestamptz NOT NULL, PRIMARY KEY (wallet_id, hour));
	CREATE TABLE first_balance_history (
	    wallet_id uuid NOT NULL REFERENCES wallets (id) ON DELETE CASCADE, hour timestamptz NOT NULL,
	    token_id text NOT NULL REFERENCES tokens (id), amount numeric(78, 0) NOT NULL CHECK (amount > 0),
	    PRIMARY KEY (wallet_id, hour, token_id))`

// BenchmarkPastOfALargeOwner reads, stores and lists an hour of an owner with 300 wallets of 20 tokens, of which each
// wallet moves one a day: 90 days by changes, beside a few hours each in full as it was done first, with the
// statements of then. The chain answers at once, so balances-ratio says how many fewer it is asked for.
func BenchmarkPastOfALargeOwner(b *testing.B) {
	const wallets, tokens, hours, firstHours = 300, 20, 90 * 24, 8
	f := newFixture(b, noRedis)
	begin := day().AddDate(0, 0, -80)
	exec := func(statement string, args ...any) {
		b.Helper()
		if _, err := f.db.SQL().ExecContext(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	exec("DELETE FROM tokens")
	exec("DELETE FROM wallets")
	var list []token.Token
	for i := range tokens {
		a := caip.Asset{Chain: 1, Contract: common.Address{byte(i + 1)}}
		if i == 0 {
			a = caip.Asset{Chain: 1, Native: true}
		}
		list = append(list, token.Token{ID: a.String(), Chain: 1, Contract: a.Contract, Native: a.Native,
			Symbol: fmt.Sprint("T", i), Verified: true})
	}
	if err := f.tokens.Put(b.Context(), list); err != nil {
		b.Fatal(err)
	}
	exec(`INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT gen_random_uuid(), $1, 'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now()
		FROM generate_series(1, $2::int) AS i`, f.owner, wallets)
	exec(everyHour)
	held := func(holder, k, hour int) uint64 { // token k of a wallet moves at an hour of each 20th day
		moves := 0
		if at := hour - holder%24 - 24*k; at >= 0 && k > 0 {
			moves = at/(24*tokens) + 1
		}
		return uint64(1_000_000 + 1000*holder + k + moves)
	}
	number := func(a common.Address) int { return int(a[18])<<8 | int(a[19]) }
	f.amount = func(holder common.Address, k token.Token, at time.Time) *uint256.Int {
		n := 0
		if !k.Native {
			n = int(k.Contract[0]) - 1
		}
		return uint256.NewInt(held(number(holder), n, int(at.Sub(begin)/time.Hour)))
	}
	for hour := 1; hour < hours; hour++ {
		for holder := 1; holder <= wallets; holder++ {
			for k := 1; k < tokens; k++ {
				if held(holder, k, hour) != held(holder, k, hour-1) {
					f.transfers = append(f.transfers, history.Transfer{
						Holder: common.Address{18: byte(holder >> 8), 19: byte(holder)}, Amount: *uint256.NewInt(1),
						Contract: common.Address{byte(k + 1)},
						At:       begin.Add(time.Duration(hour)*time.Hour - 30*time.Minute)})
				}
			}
		}
	}
	for range b.N {
		raw := firstWay(b, f, begin, firstHours)
		f.askedCount = 0
		exec("DELETE FROM wallet_history")
		exec("DELETE FROM balance_history")
		exec("DELETE FROM price_history")
		begun := time.Now()
		pages, told := 0, 0
		for after, until := (history.Cursor{}), begin.Add(hours*time.Hour); ; pages++ {
			page, next, err := f.Service.List(b.Context(), f.owner, begin, until, after, 10_000)
			if err != nil {
				b.Fatal(err)
			}
			told += len(page.Hours)
			if next == nil {
				break
			}
			after = *next
		}
		ours := float64(time.Since(begun)) / hours
		if told < hours {
			b.Fatalf("%d hours", told)
		}
		var rows int
		if err := f.db.Gorm(b.Context()).Raw(`SELECT (SELECT count(*) FROM balance_history) +
			(SELECT count(*) FROM wallet_history)`).Scan(&rows).Error; err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(ours, "ns/op")
		b.ReportMetric(raw, "raw-ns/op")
		b.ReportMetric(ours/raw, "ratio")
		b.ReportMetric(0.05, "goal")
		b.ReportMetric(float64(f.askedCount)/(wallets*tokens*hours), "asked-ratio")
		b.ReportMetric(float64(rows)/hours, "rows/op")
	}
}

// firstWay returns the nanoseconds of an hour that is read and stored as it was first, and listed in full.
func firstWay(b *testing.B, f *fixture, begin time.Time, hours int) float64 {
	b.Helper()
	wallets, err := f.store.Wallets(b.Context(), f.owner)
	if err != nil {
		b.Fatal(err)
	}
	list, err := token.ListAll(b.Context(), f.tokens, 1)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), f.db.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(b.Context(), "TRUNCATE first_wallet_history, first_balance_history"); err != nil {
		b.Fatal(err)
	}
	holders := make([]common.Address, len(wallets))
	for i, w := range wallets {
		holders[i] = w.Account.Address
	}
	begun := time.Now()
	for i := range hours {
		at := begin.Add(time.Duration(i) * time.Hour)
		readings, err := f.ReadAt(b.Context(), 1, []time.Time{at}, holders, list)
		if err != nil {
			b.Fatal(err)
		}
		var ids, of [][16]byte
		var held, amounts []string
		for j, w := range wallets {
			ids = append(ids, w.ID)
			for k, t := range list {
				of, held = append(of, w.ID), append(held, t.ID)
				amounts = append(amounts, readings[0].Amounts[j][k].Dec())
			}
		}
		err = pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(b.Context(), `INSERT INTO first_wallet_history
				SELECT id, $2, 1, '\x00', $2, 20, '', now() FROM unnest($1::uuid[]) AS id`, ids, at); err != nil {
				return err
			}
			_, err := tx.Exec(b.Context(), `INSERT INTO first_balance_history
				SELECT id, $2, token, amount::numeric
				FROM unnest($1::uuid[], $3::text[], $4::text[]) AS b (id, token, amount)`, of, at, held, amounts)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		rows, err := conn.Query(b.Context(), `
			SELECT w.id, w.account, h.block_number, h.block_time, b.token_id, b.amount::text, t.symbol, t.decimals
			FROM wallets w JOIN first_wallet_history h ON h.wallet_id = w.id
			LEFT JOIN first_balance_history b ON b.wallet_id = h.wallet_id AND b.hour = h.hour
			LEFT JOIN tokens t ON t.id = b.token_id
			WHERE w.owner_id = $1 AND h.hour = $2 ORDER BY h.hour, h.wallet_id, coalesce(b.token_id, '')`,
			[16]byte(f.owner), at)
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
		if err := rows.Err(); err != nil || n != len(of) {
			b.Fatal(n, err)
		}
	}
	return float64(time.Since(begun)) / float64(hours)
}
