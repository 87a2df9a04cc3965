package store_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/priceimport"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// importsPerProcess is how many imports a process has under way.
const importsPerProcess = 8

// importJob are imports of transactions, of a balance and of a price.
type importJob struct {
	wallet      uuid.UUID
	request     func(kind string) requests.Request
	transaction []importing.Transaction
	balance     []importing.Balance
	price       []priceimport.Row
}

// importJobOf is the same for every process, and one of ten has the rows and the ids of the one before.
func importJobOf(n int, wallets, tokens []string) importJob {
	if n%10 == 9 {
		n--
	}
	j := importJob{wallet: uuid.MustParse(wallets[n%len(wallets)]),
		request: func(kind string) requests.Request {
			return *requests.New(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, kind, n)), kind, strconv.Itoa(n))
		},
		balance: []importing.Balance{{Row: 1, Token: tokens[1], Amount: *uint256.NewInt(uint64(n + 1)), At: at(n)}},
		price:   []priceimport.Row{{TokenID: tokens[2], Price: strconv.Itoa(n + 1), At: at(n)}}}
	for i := range 5 {
		j.transaction = append(j.transaction, importing.Transaction{Row: i + 1, ID: fmt.Sprintf("import-%d-%d", n, i),
			Token: tokens[0], Kind: transaction.Transfer, Amount: *uint256.NewInt(uint64(n*5 + i + 1)), At: at(n)})
	}
	return j
}

// importer works off the imports in the table import_queue with 8 others in its process, until all are done. What a
// process that was killed had taken is taken again: nobody knows whether it was stored.
func importer(ctx context.Context, args []string) error {
	db, err := postgres.Open(ctx, postgres.Options{URL: args[0]})
	if err != nil {
		return err
	}
	client, err := redisx.New(redisx.Options{URL: noRedis})
	if err != nil {
		return err
	}
	i := imports{db: db, owner: uuid.MustParse(args[1]), ids: strings.Split(args[2], ","),
		tokens: strings.Split(args[3], ","),
		wallets: store.NewWallets(db, store.NewCaches(client, store.CacheOptions{Wallets: time.Hour, Token: time.Hour,
			Log: slog.New(slog.DiscardHandler)})),
		prices: store.NewImportedPrices(db, nil, time.Hour, time.Now)}
	var all sync.WaitGroup
	errors := make(chan error, importsPerProcess)
	for range importsPerProcess {
		all.Go(func() { errors <- i.makeAll(ctx) })
	}
	all.Wait()
	close(errors)
	for err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

// imports are those of a process.
type imports struct {
	db          *postgres.DB
	wallets     *store.Wallets
	prices      *store.ImportedPrices
	owner       uuid.UUID
	ids, tokens []string
}

func (i imports) makeAll(ctx context.Context) error {
	for {
		var n []int
		err := i.db.Gorm(ctx).Raw(`UPDATE import_queue SET taken = taken + 1 WHERE n = (
			SELECT n FROM import_queue WHERE NOT done ORDER BY taken, n LIMIT 1) RETURNING n`).Scan(&n).Error
		if err != nil || len(n) == 0 {
			return err
		}
		err = i.make(ctx, importJobOf(n[0], i.ids, i.tokens))
		if errs.Is(postgres.Translate(err), errs.KindUnavailable) {
			continue // another writer had the wallet for too long: it is tried again
		}
		if err != nil {
			return fmt.Errorf("import %d: %w", n[0], err)
		}
		if err := i.db.Gorm(ctx).Exec("UPDATE import_queue SET done = true WHERE n = ?", n[0]).Error; err != nil {
			return err
		}
	}
}

func (i imports) make(ctx context.Context, j importJob) error {
	r := j.request("ImportTransactions")
	result, err := i.wallets.ImportTransactions(ctx, i.owner, j.wallet, j.transaction, nil, &r)
	if err != nil || result.Stored != len(j.transaction) {
		return cmp.Or(err, fmt.Errorf("transactions: %+v", result))
	}
	r = j.request("ImportBalances")
	result, err = i.wallets.ImportBalances(ctx, i.owner, j.wallet, j.balance, nil, &r)
	if err != nil || result.Stored != len(j.balance) {
		return cmp.Or(err, fmt.Errorf("balances: %+v", result))
	}
	r = j.request("ImportPrices")
	prices, err := i.prices.Import(ctx, i.owner, r, j.price, false, nil)
	if err != nil || prices.Imported != len(j.price) {
		return cmp.Or(err, fmt.Errorf("prices: %+v", prices))
	}
	return nil
}

// 64 writers at full size, of whose imports one in ten repeats another's request, and which are killed while they
// write: every import is stored once, and every call has the same answer.
func TestImportsAreStoredOnceWhateverIsKilled(t *testing.T) {
	processes, kills, imports := testkit.Size(2, 8), testkit.Size(3, 20), testkit.Size(120, 3000)
	f := newFixture(t)
	wallets := make([]string, 8)
	for i := range wallets {
		wallets[i] = f.create(t, f.owner, byte(i+1)).ID.String()
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := f.db.SQL().ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	one := func(query string) (n int) {
		t.Helper()
		if err := f.db.SQL().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec("CREATE TABLE import_queue (n integer PRIMARY KEY, taken integer NOT NULL DEFAULT 0, done boolean NOT NULL " +
		"DEFAULT false)")
	exec("INSERT INTO import_queue SELECT generate_series(0, $1::int - 1)", imports)
	spawn := func() *testkit.Child {
		return testkit.Spawn(t, "importer", f.db.URL, f.owner.String(), strings.Join(wallets, ","),
			strings.Join([]string{f.tokens[0].ID, f.tokens[1].ID, f.tokens[2].ID}, ","))
	}
	running := make([]*testkit.Child, processes)
	for i := range running {
		running[i] = spawn()
	}
	for i := range kills {
		until := imports * (i + 1) / (kills + 2)
		testkit.Eventually(t, 5*time.Minute, func() bool {
			return one("SELECT count(*) FROM import_queue WHERE done") >= until
		})
		running[i%processes].Kill()
		running[i%processes] = spawn()
	}
	for _, c := range running {
		if err := c.Wait(); err != nil {
			t.Fatal(err, c.Line(time.Second))
		}
	}
	f.checkSums(t)
	want, sum, balances := 0, 0, 0
	for n := range imports {
		if n%10 != 9 {
			balances++
			want += 5
			for i := range 5 {
				sum += n*5 + i + 1
			}
		}
	}
	got := one("SELECT count(*) FROM transactions WHERE kind <> 'ADJUSTMENT'")
	total := one("SELECT sum(amount)::bigint FROM balances WHERE token_id = '" + f.tokens[0].ID + "'")
	if got != want || total != sum {
		t.Errorf("%d movements of %d are stored, and add up to %d of %d", got, want, total, sum)
	}
	// A balance that was imported differs from the one before by no movement.
	if n := one("SELECT count(*) FROM transactions WHERE kind = 'ADJUSTMENT' AND token_id <> '" + f.tokens[1].ID +
		"'"); n > 0 {
		t.Errorf("%d adjustments", n)
	}
	if n := one("SELECT count(*) FROM transactions WHERE kind = 'ADJUSTMENT'"); n != balances {
		t.Errorf("%d adjustments for %d imported balances", n, balances)
	}
	if n := one("SELECT count(*) FROM imported_prices"); n != balances {
		t.Errorf("%d prices of %d are stored", n, balances)
	}
	again := one("SELECT count(*) FROM import_queue WHERE taken > 1")
	testkit.Figure(t, "%d writers, %d SIGKILLs, %d imports of transactions, balances and prices each, of which a "+
		"tenth repeats a request id and %d were made again after a kill: each stored once, sums conserved",
		processes*importsPerProcess, kills, imports, again)
}

// Two imports at once under one id: the same rows are stored once, and other rows are refused.
func TestImportsUnderOneIDAtOnce(t *testing.T) {
	f := newFixture(t)
	w, k := f.create(t, f.owner, 1), f.tokens[0]
	for round := range testkit.Size(5, 50) {
		id := uuid.New()
		var all sync.WaitGroup
		var stored, refused atomic.Int32
		for i := range 8 {
			all.Go(func() {
				amount := uint64(i%2 + 1)
				rows := []importing.Balance{{Row: 1, Token: k.ID, Amount: *uint256.NewInt(amount), At: at(round)}}
				request := requests.New(id, "ImportBalances", fmt.Sprint(amount))
				r, err := f.ImportBalances(t.Context(), f.owner, w.ID, rows, nil, request)
				for errs.Is(postgres.Translate(err), errs.KindUnavailable) { // the others took too long
					r, err = f.ImportBalances(t.Context(), f.owner, w.ID, rows, nil, request)
				}
				switch {
				case err == nil && r.Stored == 1:
					stored.Add(1)
				case errs.Is(err, errs.KindInvalid) && errs.As(err).Violations[0].Field == "request_id":
					refused.Add(1)
				default:
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		all.Wait()
		if stored.Load() != 4 || refused.Load() != 4 {
			t.Errorf("%d calls have an answer, %d are refused", stored.Load(), refused.Load())
		}
	}
	f.checkSums(t)
}
