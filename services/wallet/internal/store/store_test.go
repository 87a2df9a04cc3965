package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{"importer": importer})
	testkit.Main(m)
}

type fixture struct {
	*store.Wallets
	db     *testkit.DB
	owner  uuid.UUID
	tokens []token.Token // in order
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	c := caches(t, noRedis)
	f := fixture{Wallets: store.NewWallets(db.DB, c), db: db, owner: uuid.New(), tokens: tokens(3)}
	if err := store.NewTokens(db.DB, c).Put(t.Context(), f.tokens); err != nil {
		t.Fatal(err)
	}
	return f
}

// noRedis is an address where nothing listens.
const noRedis = "redis://127.0.0.1:1/0"

// caches of one replica.
func caches(t testing.TB, redisURL string) *store.Caches {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: redisURL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := store.NewCaches(client, store.CacheOptions{Wallets: time.Hour, Token: time.Hour, Budget: 5 * time.Second})
	t.Cleanup(c.Close)
	return c
}

func tokens(n int) []token.Token {
	out := make([]token.Token, n)
	for i := range out {
		a := caip.Asset{Chain: 1, Contract: common.BigToAddress(common.Big1)}
		a.Contract[0] = byte(i + 1)
		out[i] = token.Token{ID: a.String(), Chain: 1, Contract: a.Contract, Symbol: fmt.Sprintf("T%d", i),
			Name: "Token", Decimals: 18, Verified: true}
	}
	return out
}

func at(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC) }

// fresh is a wallet that isn't stored yet.
func fresh(owner uuid.UUID, account byte) wallet.Wallet {
	var address common.Address
	address[19] = account
	return wallet.Wallet{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Account: caip.Account{Chain: 1, Address: address},
		Label: "mine", Version: 1, CreatedAt: at(0), UpdatedAt: at(0), Sync: wallet.Sync{State: wallet.Pending},
	}
}

func (f fixture) create(t testing.TB, owner uuid.UUID, account byte) wallet.Wallet {
	t.Helper()
	w, err := f.Create(t.Context(), fresh(owner, account), many, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// many is more wallets than a test makes.
const many = 1000

// withBalances is a list with balances.
var withBalances = wallet.Listing{Balances: true}

// saveLabel stores w's label if its version is still w's.
func saveLabel(ctx context.Context, s *store.Wallets, owner uuid.UUID, w wallet.Wallet) error {
	_, err := s.Update(ctx, owner, w.ID, nil, func(now *wallet.Wallet) error {
		if now.Version != w.Version {
			return wallet.Mismatch("", now.ETag())
		}
		now.Label, now.UpdatedAt = w.Label, w.UpdatedAt
		return nil
	})
	return err
}

func remove(ctx context.Context, s *store.Wallets, owner, id uuid.UUID, version int64) error {
	_, err := s.Delete(ctx, owner, id, version, nil)
	return err
}

func balance(t token.Token, amount, number uint64) wallet.Balance {
	return wallet.Balance{Token: t, Amount: *uint256.NewInt(amount),
		Block: block.Block{Number: number, Hash: [32]byte{byte(number)}, Time: at(int(number))}}
}

func synced(block uint64) wallet.Sync {
	when := at(int(block))
	return wallet.Sync{State: wallet.Synced, Block: block, At: &when}
}

func (f fixture) save(t testing.TB, w wallet.Wallet, block uint64, b ...wallet.Balance) {
	t.Helper()
	if err := f.SaveBalances(t.Context(), w.Owner, w.ID, b, synced(block)); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherOwnersWalletDoesNotExist(t *testing.T) {
	f := newFixture(t)
	w, mallory := f.create(t, f.owner, 1), uuid.New()
	f.save(t, w, 5, balance(f.tokens[0], 7, 5))
	before := f.dump(t)
	ctx := t.Context()
	for name, call := range map[string]func(owner, id uuid.UUID) error{
		"ByID": func(o, id uuid.UUID) error { _, err := f.ByID(ctx, o, id); return err },
		"SaveLabel": func(o, id uuid.UUID) error {
			w := w
			w.ID, w.Label = id,
				"theirs"
			return saveLabel(ctx, f.Wallets, o, w)
		},
		"Delete":       func(o, id uuid.UUID) error { return remove(ctx, f.Wallets, o, id, 0) },
		"Delete, etag": func(o, id uuid.UUID) error { return remove(ctx, f.Wallets, o, id, 1) },
		"Balances":     func(o, id uuid.UUID) error { _, err := f.Balances(ctx, o, id, "", 10); return err },
		"SaveSync":     func(o, id uuid.UUID) error { return f.SaveSync(ctx, o, id, synced(9)) },
		"SaveBalances": func(o, id uuid.UUID) error {
			return f.SaveBalances(ctx, o, id, []wallet.Balance{balance(f.tokens[0], 1, 9)}, synced(9))
		},
	} {
		t.Run(name, func(t *testing.T) {
			unknown := uuid.New()
			theirs, nobodys := call(mallory, w.ID), call(mallory, unknown)
			if !errs.Is(theirs, errs.KindNotFound) ||
				strings.ReplaceAll(theirs.Error(), w.ID.String(), unknown.String()) != nobodys.Error() {
				t.Errorf("somebody else's wallet: %v; nobody's: %v", theirs, nobodys)
			}
		})
	}
	if list, err := f.List(ctx, mallory, uuid.Nil, 10, withBalances); err != nil || len(list) != 0 {
		t.Errorf("List shows %v, %v", list, err)
	}
	if rows, err := f.Holdings(ctx, mallory, holding.Cursor{}, 10); err != nil || len(rows) != 0 {
		t.Errorf("Holdings shows %v, %v", rows, err)
	}
	if after := f.dump(t); after != before {
		t.Errorf("the rows changed from\n%s\nto\n%s", before, after)
	}
	// The control: the owner's own calls work.
	if got, err := f.ByID(ctx, f.owner, w.ID); err != nil || got.Label != "mine" {
		t.Error(got, err)
	}
}

// dump is all that is stored of wallets and balances.
func (f fixture) dump(t *testing.T) (text string) {
	t.Helper()
	row := f.db.SQL().QueryRowContext(t.Context(), `
		SELECT coalesce((SELECT string_agg(w::text, E'\n' ORDER BY id) FROM wallets w), '') || E'\n' ||
		       coalesce((SELECT string_agg(b::text, E'\n' ORDER BY wallet_id, token_id) FROM balances b), '')`)
	if err := row.Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnOwnerHasAnAccountOnlyOnce(t *testing.T) {
	f := newFixture(t)
	f.create(t, f.owner, 1)
	_, err := f.Create(t.Context(), fresh(f.owner, 1), many, nil)
	if e := errs.As(err); e == nil || e.Kind != errs.KindAlreadyExists || e.Reason != "WALLET_EXISTS" {
		t.Errorf("a second wallet of the account: %v", err)
	}
	f.create(t, uuid.New(), 1) // another user may watch it too
}

func request(id uuid.UUID, body string) *requests.Request {
	r := &requests.Request{ID: id, Method: "CreateWallet"}
	copy(r.Hash[:], body)
	return r
}

func TestARepeatedRequestIsAnsweredWithTheSameWallet(t *testing.T) {
	f := newFixture(t)
	id := uuid.New()
	first, err := f.Create(t.Context(), fresh(f.owner, 1), many, request(id, "a"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Create(t.Context(), fresh(f.owner, 1), many, request(id, "a"))
	if err != nil || again.ID != first.ID || again.Account != first.Account ||
		!again.CreatedAt.Equal(first.CreatedAt) || again.Label != first.Label {
		t.Errorf("answered %+v, %v, not %+v", again, err, first)
	}
	_, err = f.Create(t.Context(), fresh(f.owner, 2), many, request(id, "b"))
	if e := errs.As(err); e == nil || e.Kind != errs.KindInvalid || e.Violations[0].Field != "request_id" {
		t.Errorf("another body: %v", err)
	}
	// The id is the owner's: somebody else's is another.
	other, err := f.Create(t.Context(), fresh(uuid.New(), 1), many, request(id, "b"))
	if err != nil || other.ID == first.ID {
		t.Errorf("somebody else's request: %+v, %v", other, err)
	}
	// A request that failed can be made again.
	failed := uuid.New()
	if _, err := f.Create(t.Context(), fresh(f.owner, 1), many, request(failed, "a")); !errs.Is(err,
		errs.KindAlreadyExists) {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context(), fresh(f.owner, 3), many, request(failed, "c")); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

// race runs n calls at once and returns their errors.
func race(n int, call func(i int) error) []error {
	errors := make([]error, n)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-begin
			errors[i] = call(i)
		})
	}
	close(begin)
	all.Wait()
	return errors
}

func TestEqualRequestsAtOnceMakeOneWallet(t *testing.T) {
	f := newFixture(t)
	id, ids := uuid.New(), make([]uuid.UUID, 8)
	for i, err := range race(len(ids), func(i int) error {
		w, err := f.Create(t.Context(), fresh(f.owner, 1), many, request(id, "a"))
		ids[i] = w.ID
		return err
	}) {
		if err != nil || ids[i] != ids[0] {
			t.Errorf("call %d made %s, the first %s: %v", i, ids[i], ids[0], err)
		}
	}
	if list, err := f.List(t.Context(), f.owner, uuid.Nil, 10, wallet.Listing{}); err != nil || len(list) != 1 ||
		list[0].ID != ids[0] {
		t.Errorf("the owner has %v, %v", list, err)
	}
}

func TestOfTwoRenamesOfOneVersionOneWins(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		w := f.create(t, f.owner, byte(i))
		failures := race(2, func(i int) error {
			mine := w
			mine.Label = fmt.Sprint("label ", i)
			return saveLabel(t.Context(), f.Wallets, f.owner, mine)
		})
		winner := 0
		if failures[0] != nil {
			winner = 1
		}
		if e := errs.As(failures[1-winner]); failures[winner] != nil || e == nil || e.Kind != errs.KindConflict ||
			e.Reason != "ETAG_MISMATCH" {
			t.Fatalf("answers: %v", failures)
		}
		got, err := f.ByID(t.Context(), f.owner, w.ID)
		if err != nil || got.Label != fmt.Sprint("label ", winner) || got.Version != 2 {
			t.Fatalf("stored: %+v, %v", got, err)
		}
	}
}

func TestDeleteTakesTheVersionThatWasSeen(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	f.save(t, w, 1, balance(f.tokens[0], 1, 1))
	if err := saveLabel(t.Context(), f.Wallets, f.owner, w); err != nil {
		t.Fatal(err)
	}
	if err := remove(t.Context(), f.Wallets, f.owner, w.ID, 1); !errs.Is(err, errs.KindConflict) {
		t.Errorf("an old version: %v", err)
	}
	if err := remove(t.Context(), f.Wallets, f.owner, w.ID, 2); err != nil {
		t.Errorf("the version it has: %v", err)
	}
	if err := remove(t.Context(), f.Wallets, f.owner, w.ID, 2); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("a second time: %v", err)
	}
	if got := f.dump(t); got != "\n" {
		t.Errorf("left behind: %s", got)
	}
}
