package history_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// slowStore is a history.Store of a wallet with a token, whose writes take their time.
type slowStore struct {
	takes  time.Duration
	wallet wallet.Wallet
	token  token.Token

	mu     sync.Mutex
	hours  map[int64]history.HourBalances
	prices map[int64]price.Price
}

func (s *slowStore) List(context.Context, uint64, string, int) ([]token.Token, error) {
	return []token.Token{s.token}, nil
}

func (s *slowStore) Wallets(context.Context, uuid.UUID) ([]wallet.Wallet, error) {
	return []wallet.Wallet{s.wallet}, nil
}

func (s *slowStore) Records(_ context.Context, _ uuid.UUID, from, until time.Time) (out []history.Record, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hour, h := range s.hours {
		if hour >= from.Unix() && hour < until.Unix() {
			out = append(out, h.Record)
		}
	}
	return out, nil
}

func (s *slowStore) SaveBalances(ctx context.Context, hours []history.HourBalances) error {
	if err := deadline.Pause(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range hours {
		s.hours[h.Hour] = h
	}
	return nil
}

func (s *slowStore) MissingPrices(_ context.Context, _ uuid.UUID, from, until,
	_ time.Time) (out []history.TokenHour, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		if _, priced := s.prices[at.Unix()]; !priced {
			out = append(out, history.TokenHour{Token: s.token, Hour: at})
		}
	}
	return out, nil
}

func (s *slowStore) SavePrices(ctx context.Context, prices []history.HourPrice, _ time.Time) error {
	if err := deadline.Pause(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prices {
		s.prices[p.Hour.Unix()] = p.Price
	}
	return nil
}

func (s *slowStore) Past(_ context.Context, _ uuid.UUID, from, until time.Time) (history.Past, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	past := &history.WalletPast{}
	out := history.Past{Wallets: map[uuid.UUID]*history.WalletPast{s.wallet.ID: past},
		Tokens: map[string]token.Token{s.token.ID: s.token}, Quotes: map[history.TokenAt]price.Quote{}}
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		hour := at.Unix()
		if h, read := s.hours[hour]; read {
			past.Read = append(past.Read, history.ReadHours{From: hour, Until: hour + 3600})
			past.Changes = append(past.Changes, history.Change{Hour: hour, Token: s.token.ID,
				Amount: h.Balances[s.token.ID]})
		}
		if p, priced := s.prices[hour]; priced {
			out.Quotes[history.TokenAt{Token: s.token.ID, Hour: hour}] = price.Quote{TokenID: s.token.ID, Price: p}
		}
	}
	return out, nil
}

// noLocks is a history.SharedLocker of one process.
type noLocks struct{}

func (noLocks) Lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }

// A database that takes longer for a write than any time that it was once given: whatever was read is stored, as long
// as the caller waits.
func TestASlowDatabaseLosesNothingThatWasRead(t *testing.T) {
	const hours = 3
	for name, tc := range map[string]struct {
		takes, left time.Duration
		stored      bool
	}{
		"a fast one":                       {time.Millisecond, 10 * time.Second, true},
		"one that takes ten seconds":       {10 * time.Second, 30 * time.Second, true},
		"one that takes all the time":      {29 * time.Second, 30 * time.Second, true},
		"one that ends within the grace":   {32 * time.Second, 30 * time.Second, true},
		"one that is waited for no longer": {34 * time.Second, 30 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := caip.Asset{Chain: 1, Contract: common.Address{1}}
				s := &slowStore{takes: tc.takes, hours: map[int64]history.HourBalances{},
					prices: map[int64]price.Price{},
					token:  token.Token{ID: a.String(), Chain: 1, Contract: a.Contract, Symbol: "T", Verified: true},
					wallet: wallet.Wallet{ID: uuid.New(), Account: caip.Account{Chain: 1}}}
				w := &world{feedPrice: func(_ string, at time.Time) (string, time.Time) {
					return uint256.NewInt(uint64(at.Unix() / 3600)).Dec(), at
				}}
				service := history.NewService(s, s, w, w, noLocks{}, price.Policy{Stale: 2 * time.Hour,
					Bridge: 2 * time.Hour}, slog.New(slog.DiscardHandler), noon)
				var after history.Cursor
				for calls := 1; ; calls++ {
					ctx, cancel := context.WithTimeout(t.Context(), tc.left)
					page, next, err := service.List(ctx, uuid.New(), day(), day().Add(hours*time.Hour), after, 1000)
					cancel()
					if !tc.stored {
						if err == nil || len(s.hours) > 0 {
							t.Fatalf("%d hours, %v", len(s.hours), err)
						}
						return
					}
					if late := tc.takes > tc.left; calls > 3 || err != nil && !late {
						t.Fatalf("call %d: %v", calls, err)
					}
					if err != nil {
						continue // its caller has gone, and what it has read is stored
					}
					if next != nil { // what was read is stored, and the next call goes on
						after = *next
						continue
					}
					if len(page.Hours) != hours || len(s.hours) != hours || len(s.prices) != hours ||
						w.readCount() != hours || w.feedRequests != 1 {
						t.Errorf("%d hours; stored %d and %d prices, read %d times, and asked the feed %d times",
							len(page.Hours), len(s.hours), len(s.prices), w.readCount(), w.feedRequests)
					}
					return
				}
			})
		})
	}
}
