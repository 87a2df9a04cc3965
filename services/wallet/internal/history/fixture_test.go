package history_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// day is the start of the hours that the tests are about.
func day() time.Time { return noon().AddDate(0, 0, -10).Truncate(24 * time.Hour) }

// world is the chains and the price feed of a test. At an hour, a holder has the
// number of hours since 1970 of the first token, and this is each price too.
type world struct {
	mu              sync.Mutex
	reads           []time.Time // of the chains
	pricesRequested int         // by token

	chainErr         error
	chainAway        uint64 // is unavailable
	chainAsked       map[uint64]int
	chainWithoutNode uint64
	hourError        func(chain uint64, t time.Time) string
	// secondUnread: the second token can't be read.
	secondUnread bool
	amount       func(holder common.Address, k token.Token, at time.Time) *uint256.Int // if set
	transfers    []history.Transfer
	transfersErr error
	askedCount   int                              // of balances
	during       func(ctx context.Context, n int) // runs before the n-th read
	feedPrice    func(id string, t time.Time) (string, time.Time)
	feedErr      error
	feedHangs    bool          // the feed never answers
	feedWaits    chan struct{} // the feed answers when it is closed, if set
	feedAsked    func(n int)   // runs at the n-th request of the feed, before it waits
	feedRequests int
}

func (w *world) ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
	tokens []token.Token) ([]history.Reading, error) {
	out := make([]history.Reading, len(times))
	if w.chainErr != nil {
		return out, w.chainErr
	}
	w.mu.Lock()
	if w.chainAsked == nil {
		w.chainAsked = map[uint64]int{}
	}
	w.chainAsked[chain]++
	w.mu.Unlock()
	if chain == w.chainAway {
		return out, errs.Unavailable("CHAIN_UNAVAILABLE", "no node answers")
	}
	if chain == w.chainWithoutNode {
		return out, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", "no node is configured")
	}
	for i, t := range times {
		w.mu.Lock()
		w.reads = append(w.reads, t)
		n := len(w.reads)
		w.mu.Unlock()
		if w.during != nil {
			w.during(ctx, n)
		}
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if w.hourError != nil {
			if out[i].Error = w.hourError(chain, t); out[i].Error != "" {
				continue
			}
		}
		w.mu.Lock()
		w.askedCount += len(holders) * len(tokens)
		w.mu.Unlock()
		if len(holders) == 0 {
			out[i].Amounts = [][]*uint256.Int{}
		}
		out[i].Block = block.Block{Number: uint64(t.Unix() / 3600), Time: t.Add(-time.Second)}
		for _, holder := range holders {
			amounts := make([]*uint256.Int, len(tokens))
			for j := range tokens {
				amounts[j] = new(uint256.Int)
			}
			if len(tokens) > 0 {
				amounts[0] = uint256.NewInt(uint64(t.Unix() / 3600))
			}
			if w.amount != nil {
				for j, k := range tokens {
					amounts[j] = w.amount(holder, k, t)
				}
			}
			if w.secondUnread && len(tokens) > 1 {
				amounts[1] = nil
			}
			out[i].Amounts = append(out[i].Amounts, amounts)
		}
	}
	return out, nil
}

// Transfers tells of the events of these blocks, whose numbers are hours.
func (w *world) Transfers(_ context.Context, _ uint64, holders []common.Address,
	from, to uint64) (out []history.Transfer, err error) {
	for _, e := range w.transfers {
		number := uint64(e.At.Add(time.Hour-1).Unix() / 3600)
		if slices.Contains(holders, e.Holder) && number >= from && number <= to {
			out = append(out, e)
		}
	}
	return out, w.transfersErr
}

func (w *world) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	w.mu.Lock()
	w.feedRequests++
	n := w.feedRequests
	w.mu.Unlock()
	if w.feedAsked != nil {
		w.feedAsked(n)
	}
	if w.feedWaits != nil {
		select {
		case <-w.feedWaits:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pricesRequested += len(tokens)
	if w.feedErr != nil {
		return nil, w.feedErr
	}
	out := map[string][]price.Price{}
	if w.feedHangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, t := range tokens {
		out[t.ID] = nil
		for i := range hours {
			if text, at := w.feedPrice(t.ID, from.Add(time.Duration(i)*time.Hour)); text != "" {
				out[t.ID] = append(out[t.ID], price.Price{Value: text, Source: "test", At: at})
			}
		}
	}
	return out, ctx.Err()
}

func (w *world) readCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reads)
}

type fixture struct {
	*history.Service
	*world
	store   *store.History
	tokens  *store.Tokens
	all     *store.Wallets
	db      *testkit.DB
	now     time.Time
	owner   uuid.UUID
	wallets []wallet.Wallet // by id
	locker  *lock.Locker
	policy  price.Policy
	view    pageView
}

// noRedis refuses every connection.
const noRedis = "redis://127.0.0.1:1/0"

// newFixture has two wallets and two tokens of chain 1.
func newFixture(t testing.TB, redisURL string) *fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	client, err := redisx.New(redisx.Options{URL: redisURL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	caches := store.NewCaches(client, store.CacheOptions{Wallets: time.Hour, Token: time.Hour})
	t.Cleanup(caches.Close)
	partitions := store.NewPartitions(db.DB, slog.New(slog.DiscardHandler))
	f := &fixture{world: &world{}, store: store.NewHistory(db.DB, partitions), tokens: store.NewTokens(db.DB, caches),
		all: store.NewWallets(db.DB, caches),
		db:  db, now: noon(), owner: uuid.New(),
		locker: lock.New(client, lock.Options{Prefix: "purser:test", Unfenced: true, Budget: 5 * time.Second})}
	t.Cleanup(f.locker.Close)
	f.policy = price.Policy{Stale: 2 * time.Hour, Bridge: 2 * time.Hour}
	f.feedPrice = func(_ string, at time.Time) (string, time.Time) {
		return uint256.NewInt(uint64(at.Unix() / 3600)).Dec(), at
	}
	f.list(t, 2)
	for i := range 2 {
		f.add(t, f.owner, 1, byte(i+1))
	}
	f.Service = f.replica()
	return f
}

// replica returns another instance of the service.
func (f *fixture) replica() *history.Service {
	return history.NewService(f.store, f.tokens, f.world, f.world, store.NewLocks(f.locker), f.policy,
		slog.New(slog.DiscardHandler), func() time.Time { return f.now })
}

// list stores n tokens of chain 1.
func (f *fixture) list(t testing.TB, n int) {
	t.Helper()
	var tokens []token.Token
	for i := range n {
		a := caip.Asset{Chain: 1, Contract: common.Address{byte(i + 1)}}
		tokens = append(tokens, token.Token{ID: a.String(), Chain: 1, Contract: a.Contract,
			Symbol: "T" + string(rune('0'+i)), Verified: true})
	}
	if err := f.tokens.Put(t.Context(), tokens); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) add(t testing.TB, owner uuid.UUID, chain uint64, address byte) wallet.Wallet {
	t.Helper()
	w, err := f.all.Create(t.Context(), wallet.Wallet{
		ID: uuid.Must(uuid.NewV7()), Owner: owner,
		Account: caip.Account{Chain: chain, Address: common.Address{19: address}},
		Version: 1, CreatedAt: noon(), UpdatedAt: noon(), Sync: wallet.Sync{State: wallet.Pending},
	}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	if owner == f.owner {
		f.wallets = append(f.wallets, w)
		slices.SortFunc(f.wallets, func(a, b wallet.Wallet) int { return slices.Compare(a.ID[:], b.ID[:]) })
	}
	return w
}

// List makes the page of Service.List rows of whole hours, as a caller puts them together.
func (f *fixture) List(ctx context.Context, owner uuid.UUID, from, until time.Time, after history.Cursor,
	limit int) ([]history.Row, *history.Cursor, error) {
	page, next, err := f.Service.List(ctx, owner, from, until, after, limit)
	return f.view.rows(page, after, next), next, err
}

// read returns all rows of a range, read in pages of size rows, and the number of
// pages.
func (f *fixture) read(t *testing.T, hours, size int) (rows []history.Row, pages int) {
	t.Helper()
	var after history.Cursor
	until := day().Add(time.Duration(hours) * time.Hour)
	for {
		some, next, err := f.List(t.Context(), f.owner, day(), until, after, size)
		if err != nil {
			t.Fatal(err)
		}
		if f.view.given > size {
			t.Fatalf("%d rows in a page of %d", f.view.given, size)
		}
		rows = append(rows, some...)
		if pages++; next == nil {
			return rows, pages
		}
		after = *next
	}
}

// wantAll fails the test unless the rows are all of a range, with the balances and
// prices of the world.
func (f *fixture) wantAll(t *testing.T, rows []history.Row, hours int) {
	t.Helper()
	if len(rows) != hours*len(f.wallets) {
		t.Fatalf("%d rows, want %d", len(rows), hours*len(f.wallets))
	}
	for i, r := range rows {
		at := day().Add(time.Duration(i/len(f.wallets)) * time.Hour)
		number := uint256.NewInt(uint64(at.Unix() / 3600))
		if !r.Hour.Equal(at) || r.Wallet.ID != f.wallets[i%len(f.wallets)].ID || r.Balance == nil ||
			!r.Balance.Amount.Eq(number) {
			t.Fatalf("row %d is of %s: %+v", i, r.Hour, r)
		}
		if r.Quote.Value != number.Dec() || r.Wallet.Sync.State != wallet.Synced ||
			r.Wallet.Sync.Block != number.Uint64() {
			t.Fatalf("row %d: %+v, %+v", i, r.Quote, r.Wallet.Sync)
		}
	}
}

var errUnavailable = errors.New("unavailable")
