package balancesync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// world is the store, the tokens and the chain of a test.
type world struct {
	wallet   wallet.Wallet
	balances map[string]uint64 // by token id
	states   []wallet.SyncState
	saveErr  error // of SaveBalances

	tokens []token.Token

	reading balancesync.Reading
	failure error
	during  func() // runs while the chain is read
}

func newWorld(tokens int) *world {
	earlier := noon().Add(-time.Hour)
	w := &world{
		wallet: wallet.Wallet{
			ID: uuid.New(), Owner: uuid.New(), Account: caip.Account{Chain: 1, Address: common.Address{1}}, Version: 3,
			Sync: wallet.Sync{State: wallet.Synced, Block: 50, At: &earlier},
		},
		balances: map[string]uint64{},
		reading: balancesync.Reading{Block: block.Block{Number: 100, Hash: [32]byte{9},
			Time: noon().Add(-time.Second)}},
	}
	for i := range tokens {
		t := token.Token{ID: fmt.Sprintf("token %04d", i), Symbol: fmt.Sprintf("T%d", i), Chain: 1}
		w.tokens = append(w.tokens, t)
		w.balances[t.ID] = 1000
		w.reading.Amounts = append(w.reading.Amounts, uint256.NewInt(uint64(i)))
	}
	return w
}

func (w *world) find(owner, id uuid.UUID) error {
	if owner != w.wallet.Owner || id != w.wallet.ID {
		return errs.NotFound("wallet")
	}
	return nil
}

func (w *world) Discovered(context.Context, []uuid.UUID) (map[uuid.UUID][]token.Token, error) {
	return map[uuid.UUID][]token.Token{}, nil
}

func (w *world) ByID(_ context.Context, owner, id uuid.UUID) (wallet.Wallet, error) {
	return w.wallet, w.find(owner, id)
}

func (w *world) SaveSync(ctx context.Context, owner, id uuid.UUID, s wallet.Sync) error {
	if err := errors.Join(ctx.Err(), w.find(owner, id)); err != nil {
		return err
	}
	w.wallet.Sync = s
	w.states = append(w.states, s.State)
	return nil
}

func (w *world) SaveBalances(ctx context.Context, owner, id uuid.UUID, b []wallet.Balance, s wallet.Sync,
	_ ...defi.Reading) error {
	if w.saveErr != nil {
		return w.saveErr
	}
	for _, x := range b {
		w.balances[x.Token.ID] = x.Amount.Uint64()
	}
	return w.SaveSync(ctx, owner, id, s)
}

func (w *world) List(_ context.Context, chain uint64, after string, limit int) ([]token.Token, error) {
	var out []token.Token
	for _, t := range w.tokens {
		if t.Chain == chain && t.ID > after && len(out) < limit {
			out = append(out, t)
		}
	}
	return out, nil
}

func (w *world) Read(ctx context.Context, _, _ uint64, _ common.Address, tokens []token.Token) (balancesync.Reading,
	error) {
	if w.during != nil {
		w.during()
	}
	if len(tokens) != len(w.tokens) {
		return balancesync.Reading{}, fmt.Errorf("asked for %d of %d tokens", len(tokens), len(w.tokens))
	}
	return w.reading, errors.Join(ctx.Err(), w.failure)
}

func (w *world) sync(ctx context.Context) (wallet.Wallet, int, error) {
	return balancesync.NewService(w, w, noContracts{}, w, noon).Sync(ctx, w.wallet.Owner, w.wallet.ID)
}

func TestASyncStoresEveryBalanceAndSaysSo(t *testing.T) {
	w := newWorld(2500) // more than a page of tokens
	got, n, err := w.sync(t.Context())
	if err != nil || n != 2500 {
		t.Fatal(n, err)
	}
	if w.balances["token 0000"] != 0 || w.balances["token 2499"] != 2499 {
		t.Error("balances are missing")
	}
	for who, s := range map[string]wallet.Sync{"stored": w.wallet.Sync, "answered": got.Sync} {
		if s.State != wallet.Synced || s.Block != 100 || !s.At.Equal(noon().Add(-time.Second)) || s.Error != "" ||
			s.RetryAt != nil {
			t.Errorf("%s: %+v", who, s)
		}
	}
	if !slices.Equal(w.states, []wallet.SyncState{wallet.Syncing, wallet.Synced}) || got.Version != 3 {
		t.Errorf("states %v, version %d", w.states, got.Version)
	}
}

func TestATokenThatCouldNotBeReadKeepsItsBalanceAndIsNamed(t *testing.T) {
	w := newWorld(3)
	w.reading.Amounts[1] = nil
	got, n, err := w.sync(t.Context())
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if w.balances["token 0001"] != 1000 || w.balances["token 0002"] != 2 {
		t.Errorf("balances %v", w.balances)
	}
	if got.Sync.State != wallet.Synced || !strings.Contains(got.Sync.Error, "T1") ||
		strings.Contains(got.Sync.Error, "T2") {
		t.Errorf("sync %+v", got.Sync)
	}
}

func TestAFailureIsRecordedAndLeavesEverythingElse(t *testing.T) {
	unavailable := errs.Unavailable("CHAIN_UNAVAILABLE", "no node answers").Because(errors.New("secret detail"))
	for _, tc := range []struct {
		name string
		bend func(w *world, cancel func())
		kind errs.Kind
		text string
	}{
		{"the chain is unavailable", func(w *world, _ func()) { w.failure = unavailable }, errs.KindUnavailable,
			"no node answers"},
		{"the chain fails in an unknown way", func(w *world, _ func()) { w.failure = errors.New("secret detail") },
			errs.KindInternal, "internal error"},
		{"the balances can't be stored", func(w *world, _ func()) { w.saveErr = errors.New("secret detail") },
			errs.KindInternal, "internal error"},
		{"the chain answers too little", func(w *world, _ func()) { w.reading.Amounts = w.reading.Amounts[:1] },
			errs.KindInternal, "internal error"},
		{"the caller goes away", func(w *world, cancel func()) { w.during = cancel }, errs.KindInternal,
			"the call ended before the sync did"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(2)
			before := *w.wallet.Sync.At
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tc.bend(w, cancel)
			if _, _, err := w.sync(ctx); err == nil || errs.KindOf(err) != tc.kind {
				t.Fatalf("answered %v", err)
			}
			s := w.wallet.Sync
			if s.State != wallet.Failed || s.Error != tc.text || s.RetryAt == nil ||
				!s.RetryAt.Equal(noon().Add(30*time.Second)) {
				t.Errorf("recorded %+v", s)
			}
			if s.Block != 50 || !s.At.Equal(before) {
				t.Errorf("the last success moved to block %d, %s", s.Block, s.At)
			}
			if w.balances["token 0000"] != 1000 || w.balances["token 0001"] != 1000 {
				t.Errorf("balances %v", w.balances)
			}
		})
	}
}

func TestAnotherOwnersWalletIsNotSynced(t *testing.T) {
	w := newWorld(1)
	w.during = func() { t.Error("the chain was read") }
	_, _, err := balancesync.NewService(w, w, noContracts{}, w, noon).Sync(t.Context(), uuid.New(), w.wallet.ID)
	if !errs.Is(err, errs.KindNotFound) || len(w.states) != 0 {
		t.Errorf("answered %v, states %v", err, w.states)
	}
}

func TestAWalletThatIsDeletedMeanwhileIsNotFound(t *testing.T) {
	w := newWorld(1)
	w.during = func() { w.wallet.ID = uuid.New() }
	id := w.wallet.ID
	_, _, err := balancesync.NewService(w, w, noContracts{}, w, noon).Sync(t.Context(), w.wallet.Owner, id)
	if !errs.Is(err, errs.KindNotFound) {
		t.Errorf("answered %v", err)
	}
}

func TestASyncTakesALeaseForAsLongAsItsCallMayTake(t *testing.T) {
	for name, limit := range map[string]time.Duration{"with a limit": time.Hour, "without one": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			ctx, least := t.Context(), time.Minute
			if limit > 0 {
				var cancel func()
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
				least = limit
			}
			w.during = func() {
				until := w.wallet.Sync.RetryAt
				if until == nil || until.Before(noon().Add(least)) || until.After(noon().Add(least+10*time.Second)) {
					t.Errorf("the lease ends %v", until)
				}
			}
			if got, _, err := w.sync(ctx); err != nil || got.Sync.RetryAt != nil || w.wallet.Sync.RetryAt != nil {
				t.Errorf("answered %+v, %v", got.Sync, err)
			}
		})
	}
}

func TestASyncAtAnOldBlockSaysSo(t *testing.T) {
	for age, told := range map[time.Duration]string{
		time.Hour:      "",
		20 * time.Hour: "the newest block of the node, 100, is of 2026-02-28T16:00:00Z, 20h0m0s ago",
	} {
		w := newWorld(2)
		w.wallet.Sync = wallet.Sync{State: wallet.Pending}
		w.reading.Block.Time = noon().Add(-age)
		got, n, err := w.sync(t.Context())
		if err != nil || n != 2 || got.Sync.State != wallet.Synced || got.Sync.Error != told {
			t.Errorf("%s old: %v, %+v", age, err, got.Sync)
		}
	}
}

// noContracts knows nothing of contracts.
type noContracts struct{}

func (noContracts) Check(_ context.Context, _ uint64, tokens []token.Token) []token.Token {
	return tokens
}

func (noContracts) CheckUnread(_ context.Context, _ uint64, tokens []token.Token, _ []bool) []token.Token {
	return tokens
}
