package price

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Feed is one source of prices.
type Feed interface {
	// Current returns prices by token id, without the tokens that it has none of. A feed
	// that rests after a failure returns an error at once.
	Current(ctx context.Context, tokens []token.Token) (map[string]Price, error)
}

// PastFeed is a feed that has prices of the past.
type PastFeed interface {
	// History returns the prices of this many hours from a time on, by token id, in order
	// of their times. A token that the feed has no price of has an empty entry. If it
	// fails or ctx ends, what was read until then is returned with the error; tokens that
	// were not read have no entry.
	History(ctx context.Context, tokens []token.Token, from time.Time, hours int) (map[string][]Price, error)
}

// NamedFeed is a feed and its name in prices.
type NamedFeed struct {
	Name string
	Feed
}

// ErrTooSlow is the cause of the end of a context of a feed that has taken its share of
// the time of a call. It is a failure of the feed.
var ErrTooSlow = errors.New("the price source is too slow")

// Failed reports whether an error of a call to a feed is the feed's, and not of a caller
// who has left.
func Failed(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() == nil || errors.Is(context.Cause(ctx), ErrTooSlow))
}

// Sources are feeds in the order in which they are believed: the first one that has a good
// price of a token wins. A price is good when it is not stale and doesn't jump. When none
// is good, the newest one that doesn't jump is used. It is safe for concurrent use.
type Sources struct {
	feeds   []*source
	policy  Policy
	log     *slog.Logger
	now     func() time.Time
	metrics sourceMetrics

	mu       sync.Mutex
	compared map[string]comparison // by token id
}

// source is a feed and the tokens that it had no price of.
type source struct {
	NamedFeed
	mu     sync.Mutex
	absent map[string]time.Time
}

// maxRemembered bounds what is remembered of tokens; when it is reached, all is forgotten.
const maxRemembered = 20_000

// NewSources returns the feeds in their order, of which there must be at least one.
func NewSources(feeds []NamedFeed, p Policy, log *slog.Logger, now func() time.Time) *Sources {
	s := &Sources{policy: p, log: log, now: now, metrics: newSourceMetrics(feeds),
		compared: map[string]comparison{}}
	for _, f := range feeds {
		s.feeds = append(s.feeds, &source{NamedFeed: f, absent: map[string]time.Time{}})
	}
	return s
}

// Current returns the prices of tokens by their ids. last are the prices that are known,
// from which jumps are recognised. With an error some feeds failed, and tokens without a
// price are not known to have none.
func (s *Sources) Current(ctx context.Context, tokens []token.Token, last map[string]Price) (map[string]Price,
	error) {
	c := choice{sources: s, last: last, got: map[string]Price{}, stale: map[string]Price{},
		jumped: map[string][]Price{}, left: tokens}
	var failed error
	for i, f := range s.feeds {
		if len(c.left) == 0 {
			break
		}
		found, err := s.ask(ctx, f, c.left, i == len(s.feeds)-1)
		failed = cmp.Or(failed, err)
		c.take(found)
	}
	if len(c.left) == 0 {
		failed = nil
	}
	c.end(ctx)
	s.compare(ctx, tokens, c.got)
	return c.got, failed
}

// ask asks a feed for the prices of tokens. Unless it is the last one, it gets half of the
// time that is left.
func (s *Sources) ask(ctx context.Context, f *source, tokens []token.Token, last bool) (map[string]Price, error) {
	if len(s.feeds) > 1 {
		if tokens = f.worthAsking(tokens, s.now(), s.policy.Refresh); len(tokens) == 0 {
			return map[string]Price{}, nil
		}
	}
	limited := ctx
	if ends, ok := ctx.Deadline(); ok && !last {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, time.Until(ends)/2, ErrTooSlow)
		defer cancel()
	}
	found, err := f.Current(limited, tokens)
	if err != nil {
		s.metrics.failed(ctx, f.Name)
		s.log.WarnContext(ctx, "price source failed", "source", f.Name, "error", err)
		return nil, err
	}
	f.rememberAbsent(tokens, found, s.now())
	return found, nil
}

// worthAsking returns the tokens that the feed is worth asking for: all but those that it was found to lack within a
// period.
func (f *source) worthAsking(tokens []token.Token, now time.Time, within time.Duration) []token.Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []token.Token
	for _, t := range tokens {
		if at, absent := f.absent[t.ID]; !absent || now.Sub(at) >= within {
			out = append(out, t)
		}
	}
	return out
}

func (f *source) rememberAbsent(asked []token.Token, found map[string]Price, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.absent)+len(asked) > maxRemembered {
		f.absent = map[string]time.Time{}
	}
	for _, t := range asked {
		if _, has := found[t.ID]; has {
			delete(f.absent, t.ID)
		} else {
			f.absent[t.ID] = now
		}
	}
}

// choice of the prices of a call.
type choice struct {
	sources *Sources
	last    map[string]Price
	got     map[string]Price
	stale   map[string]Price   // the newest of those that are stale
	jumped  map[string][]Price // those that jump, in the order of their feeds
	left    []token.Token      // without a good price
}

// take takes what the next feed has found.
func (c *choice) take(found map[string]Price) {
	now, policy := c.sources.now(), c.sources.policy
	var left []token.Token
	for _, t := range c.left {
		p, ok := found[t.ID]
		switch {
		case !ok:
			left = append(left, t)
		case p.JumpsFrom(c.last[t.ID]):
			agrees := false
			for _, before := range c.jumped[t.ID] {
				if !agrees && !FarApart(p.Value, before.Value, policy.Disagreement) {
					c.got[t.ID], agrees = before, true
				}
			}
			if !agrees {
				c.jumped[t.ID], left = append(c.jumped[t.ID], p), append(left, t)
			}
		case p.StaleAt(now, policy.Stale):
			if old, has := c.stale[t.ID]; !has || p.At.After(old.At) {
				c.stale[t.ID] = p
			}
			left = append(left, t)
		default:
			c.got[t.ID] = p
		}
	}
	c.left = left
}

// end uses stale prices where there are no others, and logs the jumps that were refused.
func (c *choice) end(ctx context.Context) {
	for id, p := range c.stale {
		if _, has := c.got[id]; !has {
			c.got[id] = p
		}
	}
	for id, jumps := range c.jumped {
		for _, p := range jumps {
			if c.got[id].Value != p.Value {
				c.sources.log.WarnContext(ctx, "price jump refused", "token", id, "source", p.Source, "price", p.Value,
					"at", p.At, "before", c.last[id].Value, "before_at", c.last[id].At)
			}
		}
	}
}
