package gains

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const (
	// readBudget is how long a call reads prices that are not stored, readShare the share of the caller's time that it
	// may take at most, and readPages how many pages of a token's hours.
	readBudget, readShare, readPages = 6 * time.Second, 0.5, 60
	// pageHours is how many hours a page of prices has.
	pageHours = 500
	// MaxMovements is how many movements an owner may have.
	MaxMovements = 200_000
	// keptEvents is how many events are kept for later calls, of a kilobyte or so each.
	keptEvents = 150_000
)

// Moved is what moved the balances of an owner.
type Moved struct {
	Movements []Movement
	Tokens    map[string]Token
	// Prices are those of the movements.
	Prices map[TokenHour]*Price
}

// Source reads from the wallet service.
type Source interface {
	// Movements returns all of an owner, errs.Exhausted (TOO_MANY_TRANSACTIONS), errs.Unavailable
	// (WALLET_UNAVAILABLE).
	Movements(ctx context.Context, owner uuid.UUID) (Moved, error)
	// PriceHours returns the prices of a token in the hours from one to before another; errs.NotFound for a token that
	// isn't known.
	PriceHours(ctx context.Context, token string, from, until time.Time) (map[int64]Price, error)
	// Now returns the present prices of tokens.
	Now(ctx context.Context, tokens []string) (map[string]valuation.Price, error)
}

// Store has the records of IdentifyLots.
type Store interface {
	// Identifications returns those of an owner by their times.
	Identifications(ctx context.Context, owner uuid.UUID) ([]Identification, error)
	// Identify stores a record with the time that the store gives it, once for a request. errs.Exhausted
	// (TOO_MANY_IDENTIFICATIONS).
	Identify(ctx context.Context, i Identification, r *requests.Request) (Identification, error)
	// Answered returns the record of an earlier request, if there is one.
	Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (i Identification, answered bool, err error)
}

// Rates are those of currencies; *currency.Service implements it.
type Rates interface {
	Known(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
	Now(ctx context.Context, currency string) (currency.Rate, error)
}

// Members says which wallets a portfolio has now; *portfolio.Named implements it.
type Members interface {
	Now(ctx context.Context, p portfolio.Portfolio) (portfolio.Member, error)
}

// Service computes lots. It is safe for concurrent use.
type Service struct {
	source  Source
	store   Store
	rates   Rates
	members Members
	now     func() time.Time
	limiter *computeLimiter

	mu   sync.Mutex
	kept map[string]*kept
	used []string // the keys of kept, the one used last at the end
}

// NewService returns the service.
func NewService(src Source, st Store, r Rates, m Members, now func() time.Time) *Service {
	return &Service{source: src, store: st, rates: r, members: m, now: now, limiter: newComputeLimiter(),
		kept: map[string]*kept{}}
}

// kept is what was computed last of an owner by given options.
type kept struct {
	mu     sync.Mutex
	ledger *Ledger
	events int // guarded by Service.mu
}

// Result is what a call returns of.
type Result struct {
	Options
	ReadAt    time.Time
	Movements int
	Tokens    map[string]Token
	Unpriced  []Unpriced
	Stale     int

	assets []string // in order
	parts  map[string][]Part
	open   map[string][]Open
	events map[string][]Event
	// wallets of the portfolio; nil for all.
	wallets map[string]bool
}

// Read computes the lots of a portfolio's owner.
func (s *Service) Read(ctx context.Context, p portfolio.Portfolio, o Options) (*Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Result{Options: o, ReadAt: s.now().UTC()}
	if r.wallets, err = s.walletsOf(ctx, p, o); err != nil {
		return nil, err
	}
	end, err := s.limiter.take(ctx, p.Owner)
	if err != nil {
		return nil, err
	}
	defer end()
	moved, err := s.source.Movements(ctx, p.Owner)
	if err != nil {
		return nil, err
	}
	moved.Movements = slices.DeleteFunc(moved.Movements,
		func(m Movement) bool { return moved.Tokens[m.Token].Ignored })
	if err := o.checkDecimals(moved.Tokens); err != nil {
		return nil, err
	}
	s.readPrices(ctx, moved.Prices)
	v := &values{tokens: moved.Tokens, prices: moved.Prices}
	if v.rates, err = s.ratesOf(ctx, o.Currency, moved.Movements); err != nil {
		return nil, err
	}
	r.Movements, r.Tokens, r.Stale = len(moved.Movements), moved.Tokens, v.stale()
	var given []Identification
	if o.Method == Specific {
		if given, err = s.store.Identifications(ctx, p.Owner); err != nil {
			return nil, err
		}
	}
	switch err := s.compute(ctx, p.Owner, r, moved.Movements, v, given); {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, errs.Internal(err)
	}
	r.Unpriced, r.assets = unpriced(r.events), slices.Sorted(maps.Keys(r.events))
	return r, nil
}

// compute sets the events and what comes of them. It goes on from what was computed last, and ends with ctx: moves of
// many lots take long, and nobody waits for them then.
func (s *Service) compute(ctx context.Context, owner uuid.UUID, r *Result, moved []Movement, v *values,
	given []Identification) error {
	key := owner.String() + " " + r.key()
	k := s.take(key, r.Options)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ledger.Prepare(moved, v)
	r.events, r.parts, r.open = maps.Clone(k.ledger.events), map[string][]Part{}, map[string][]Open{}
	count := 0
	for asset, events := range r.events {
		if len(given) > 0 {
			r.events[asset] = slices.Clone(events)
			Identify(asset, r.events[asset], given, r.Options.assets)
		}
		count += len(events)
	}
	if err := k.ledger.Compute(r.events, ctx.Err); err != nil {
		return err
	}
	for asset, b := range k.ledger.books {
		r.parts[asset], r.open[asset] = b.Parts(), b.Open()
	}
	s.keep(key, k, count)
	return nil
}

// take returns what is kept of a key.
func (s *Service) take(key string, o Options) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.kept[key]; k != nil {
		return k
	}
	return &kept{ledger: NewLedger(o.Rules, o.assets)}
}

// keep notes what was used last, and forgets what was used longest ago while there are too many events, itself too.
func (s *Service) keep(key string, k *kept, events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.events = events
	s.kept[key] = k
	s.used = append(slices.DeleteFunc(s.used, func(other string) bool { return other == key }), key)
	all := 0
	for _, other := range s.used {
		all += s.kept[other].events + 100 // what an empty one has
	}
	for all > keptEvents+100 {
		all -= s.kept[s.used[0]].events + 100
		delete(s.kept, s.used[0])
		s.used = s.used[1:]
	}
}

// walletsOf are the wallets of a portfolio that has some only.
func (s *Service) walletsOf(ctx context.Context, p portfolio.Portfolio, o Options) (map[string]bool, error) {
	if p.Default {
		return nil, nil //nolint:nilnil // all of them
	}
	if !o.byWallet() {
		return nil, errs.Invalid("portfolio_id",
			"must be that of the default portfolio, or empty, where lots are of all wallets together: they are of no "+
				"wallet then; set options.per_wallet for one with some wallets")
	}
	m, err := s.members.Now(ctx, p)
	if err != nil {
		return nil, err
	}
	wallets := map[string]bool{}
	for _, id := range m.Membership.Wallets {
		wallets[id.String()] = true
	}
	return wallets, nil
}

// readPrices reads those that are not stored yet, as far as the caller's time and the deployment allow. The others
// stay unread.
func (s *Service) readPrices(ctx context.Context, prices map[TokenHour]*Price) {
	missing := map[string][]int64{}
	now := s.now().Unix()
	for at, p := range prices {
		if p.Unread && at.Hour <= now {
			missing[at.Token] = append(missing[at.Token], at.Hour)
		}
	}
	reading, stop := deadline.Share(ctx, readShare, readBudget)
	defer stop()
	pages := 0
	for _, token := range slices.Sorted(maps.Keys(missing)) {
		hours := missing[token]
		slices.Sort(hours)
		for len(hours) > 0 && pages < readPages {
			n, _ := slices.BinarySearch(hours, hours[0]+pageHours*3600)
			got, err := s.source.PriceHours(reading, token, time.Unix(hours[0], 0).UTC(),
				time.Unix(hours[n-1]+1, 0).UTC())
			pages++
			switch {
			case errs.Is(err, errs.KindNotFound):
				for _, h := range hours {
					*prices[TokenHour{token, h}] = Price{}
				}
				n = len(hours)
			case err != nil:
				return // what is missing says so
			}
			for _, h := range hours[:n] {
				if p, has := got[h]; has {
					*prices[TokenHour{token, h}] = p
				}
			}
			hours = hours[n:]
		}
	}
}

// ratesOf are the rates of the hours of movements.
func (s *Service) ratesOf(ctx context.Context, code string, movements []Movement) (map[int64]currency.Rate, error) {
	hours := map[int64]bool{}
	for i := range movements {
		hours[hourOf("", movements[i].Time).Hour] = true
	}
	sorted := slices.Sorted(maps.Keys(hours))
	times := make([]time.Time, len(sorted))
	for i, h := range sorted {
		times[i] = time.Unix(h, 0).UTC()
	}
	rates, err := s.rates.Known(ctx, code, times...)
	if err != nil {
		return nil, err
	}
	out := make(map[int64]currency.Rate, len(rates))
	for i, rate := range rates {
		out[sorted[i]] = rate
	}
	return out, nil
}
