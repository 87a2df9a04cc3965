package price_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// slowPrices is a store whose write takes a second, and a feed that answers in the last moment.
type slowPrices struct {
	answersAfter time.Duration
	saved        map[string]price.Price
}

func (*slowPrices) Tokens(context.Context, []string) (map[string]token.Token, error) {
	return map[string]token.Token{}, nil
}

func (*slowPrices) Prices(context.Context, []string) (map[string]price.Stored, error) {
	return map[string]price.Stored{}, nil
}

func (s *slowPrices) SavePrices(ctx context.Context, prices map[string]price.Price, _ time.Time) error {
	if err := deadline.Pause(ctx, time.Second); err != nil {
		return err
	}
	s.saved = prices
	return nil
}

func (s *slowPrices) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	if err := deadline.Pause(ctx, s.answersAfter); err != nil {
		return nil, err
	}
	return map[string]price.Price{tokens[0].ID: {Value: "5", Source: "slow", At: time.Now()}}, nil
}

// A feed that takes nearly all the time of a fetch would be asked for the same prices again and again.
func TestWhatASlowFeedSaidIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		s := &slowPrices{answersAfter: 3900 * time.Millisecond}
		sources := price.NewSources([]price.NamedFeed{{Name: "slow", Feed: s}}, policy(), log, time.Now)
		service := price.NewService(s, sources, nil, policy(), log, time.Now)
		got, err := price.Fetch(service, t.Context(), []token.Token{{ID: "t"}}, nil)
		if err != nil || got["t"].Value != "5" || s.saved["t"].Value != "5" {
			t.Errorf("%v, %v, stored %v", got, err, s.saved)
		}
	})
}
