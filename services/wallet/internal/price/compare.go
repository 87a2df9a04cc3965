package price

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// compareTimeout bounds how long a call waits for the feeds that its prices are compared
// with.
const compareTimeout = time.Second

// comparison is what other feeds said of a token.
type comparison struct {
	at     time.Time
	others []Price
}

// compare sets Other of the prices that differ from those of other feeds by more than the
// limit. The other feeds are asked for a token once in Policy.CompareEvery; in between,
// what they said is compared.
func (s *Sources) compare(ctx context.Context, tokens []token.Token, got map[string]Price) {
	if len(s.feeds) < 2 || s.policy.CompareEvery == 0 {
		return
	}
	now := s.now()
	var due []token.Token
	s.mu.Lock()
	for _, t := range tokens {
		if _, has := got[t.ID]; has && now.Sub(s.compared[t.ID].at) >= s.policy.CompareEvery {
			due = append(due, t)
		}
	}
	s.mu.Unlock()
	fresh := s.askOthers(ctx, due, got)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.compared)+len(due) > maxRemembered {
		s.compared = map[string]comparison{}
	}
	for _, t := range due {
		s.compared[t.ID] = comparison{at: now, others: fresh[t.ID]}
	}
	for id, p := range got {
		_, isNew := fresh[id]
		for _, o := range s.compared[id].others {
			if o.Source == p.Source || o.StaleAt(now, s.policy.Stale) ||
				!FarApart(p.Value, o.Value, s.policy.Disagreement) {
				continue
			}
			if p.Other == nil {
				p.Other = &Other{Value: o.Value, Source: o.Source, At: o.At}
			}
			if isNew {
				s.metrics.disagree(ctx, p.Source, o.Source)
				s.log.WarnContext(ctx, "price sources disagree", "token", id, "source", p.Source, "price", p.Value,
					"other", o.Source, "other_price", o.Value)
			}
		}
		got[id] = p
	}
}

// askOthers returns what the feeds that the prices are not of say of the tokens, in the
// order of the feeds.
func (s *Sources) askOthers(ctx context.Context, tokens []token.Token, got map[string]Price) map[string][]Price {
	if len(tokens) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, compareTimeout, ErrTooSlow)
	defer cancel()
	found := make([]map[string]Price, len(s.feeds))
	var g errgroup.Group
	for i, f := range s.feeds {
		var asked []token.Token
		for _, t := range tokens {
			if got[t.ID].Source != f.Name {
				asked = append(asked, t)
			}
		}
		if len(asked) == 0 {
			continue
		}
		g.Go(func() error {
			found[i], _ = s.ask(ctx, f, asked, true) // a feed that fails says nothing
			return nil
		})
	}
	_ = g.Wait()
	out := map[string][]Price{}
	for _, prices := range found {
		for id, p := range prices {
			out[id] = append(out[id], p)
		}
	}
	return out
}
