package pricehistory_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricehistory"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// slowPrices is a store whose writes take their time, and a source of prices.
type slowPrices struct {
	takes time.Duration

	mu    sync.Mutex
	hours []pricehistory.Hour
	asked int
}

func (s *slowPrices) PriceHours(context.Context, []string, time.Time, time.Time) ([]pricehistory.Hour, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hours, nil
}

func (s *slowPrices) SavePrices(ctx context.Context, prices []history.HourPrice, at time.Time) error {
	if err := deadline.Pause(ctx, s.takes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prices {
		s.hours = append(s.hours, pricehistory.Hour{TokenID: p.Token.ID, Hour: p.Hour, Price: p.Price, FetchedAt: at,
			Final: true})
	}
	return nil
}

func (s *slowPrices) History(_ context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	out := map[string][]price.Price{}
	for i := range hours {
		out[tokens[0].ID] = append(out[tokens[0].ID], price.Price{Value: "5", Source: "test",
			At: from.Add(time.Duration(i) * time.Hour)})
	}
	return out, nil
}

// A database that can't store prices within seconds must not have the sources asked for them by each call.
func TestASlowDatabaseHasTheSourcesAskedOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		takes time.Duration
		asked int
	}{
		"twenty seconds":     {20 * time.Second, 1},
		"longer than it can": {time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowPrices{takes: tc.takes}
				service := pricehistory.NewService(s, s, price.Policy{Stale: 2 * time.Hour, Bridge: 2 * time.Hour},
					slog.New(slog.DiscardHandler), time.Now)
				from := time.Now().Add(-72 * time.Hour).Truncate(time.Hour)
				list := func() []pricehistory.Quote {
					quotes, err := service.List(t.Context(), pricehistory.Query{Token: token.Token{ID: "t"},
						From: from, Until: from.Add(3 * time.Hour),
						MayRead: func(context.Context) error { return nil }})
					if err != nil {
						t.Fatal(err)
					}
					return quotes
				}
				if quotes := list(); len(quotes) != 3 || quotes[0].Reason != price.SourceUnavailable {
					t.Fatalf("while they are being stored: %+v", quotes)
				}
				<-time.After(40 * time.Second)
				if quotes := list(); tc.asked == 1 && quotes[0].Value != "5" || s.asked != tc.asked {
					t.Errorf("the sources were asked %d times: %+v", s.asked, quotes)
				}
				<-time.After(2 * time.Minute) // for what goes on without a caller
			})
		})
	}
}
