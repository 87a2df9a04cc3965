// Package watch tells what portfolios are worth, and each time that this changes.
//
// It promises: a stream sends the state as it is when the valuation is computed; every change that the wallet service
// announces, and every price that differs from the one a stream has sent, leads to a message within the times below,
// however many come at once; the only thing stored per reader is a flag that its state may have changed. The changes
// of all owners come by one stream of the wallet service, and all prices by one query each period, however many
// streams there are. A cursor is a digest of a state, so that every replica knows it without anything being stored.
//
// Without an account of the service, or while the stream of changes is broken, each stream works its state out once a
// period instead. Redis is not used.
package watch

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// pollInterval is how often it is looked for portfolios that were changed or deleted, here or at another replica.
const pollInterval = time.Second

// Prices reads present prices of tokens and currencies; *holdings.Prices does.
type Prices interface {
	Now(ctx context.Context, ids []string) (map[string]valuation.Price, error)
}

// Versions reads which versions portfolios have; *store.Portfolios does.
type Versions interface {
	// Versions returns the versions of those of the portfolios that exist, by id, with one statement.
	Versions(ctx context.Context, portfolios []portfolio.Portfolio) (map[uuid.UUID]int64, error)
}

// Hub knows who watches what, and wakes them. Each replica has one. It is safe for concurrent use.
type Hub struct {
	versions Versions
	prices   Prices
	interval time.Duration
	log      *slog.Logger
	seed     maphash.Seed
	watchers metric.Int64UpDownCounter
	// followed reports whether changes of holdings are told by WakeOwners; nil for never.
	followed func() bool

	mu      sync.Mutex
	byOwner map[uuid.UUID]map[*watcher]struct{}
	assets  map[string]*asset
}

// asset is a token or a currency that is watched. Hub.mu guards it.
type asset struct {
	id    string
	users int
}

// known is what a watcher knows of an asset's price.
type known struct {
	*asset
	digest uint64
}

// watcher is one stream.
type watcher struct {
	hub  *Hub
	of   portfolio.Portfolio
	wake chan struct{} // has a signal since the state may be another
	seen []known       // Hub.mu guards it
}

// NewHub returns a hub that compares prices once per interval. While changes are not followed it revalues everything
// then.
func NewHub(v Versions, p Prices, interval time.Duration, log *slog.Logger) *Hub {
	// An instrument that can't be made is a no-op one.
	watchers, _ := otel.Meter("purser/portfolio/watch").Int64UpDownCounter("valuation_watchers",
		metric.WithDescription("Open streams of WatchValuation."))
	watchers.Add(context.Background(), 0)
	return &Hub{versions: v, prices: p, interval: interval, log: log, seed: maphash.MakeSeed(), watchers: watchers,
		byOwner: map[uuid.UUID]map[*watcher]struct{}{}, assets: map[string]*asset{}}
}

// SetFollowing has the hub rely on WakeOwners while followed reports that it is called. Call it before Run.
func (h *Hub) SetFollowing(followed func() bool) { h.followed = followed }

// WakeOwners wakes the streams of owners of whom something changed.
func (h *Hub) WakeOwners(owners []uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, owner := range owners {
		for w := range h.byOwner[owner] {
			w.signal()
		}
	}
}

// WakeAll wakes all streams.
func (h *Hub) WakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range h.byOwner {
		for w := range of {
			w.signal()
		}
	}
}

// Run polls for changes that no event announces, until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	poll, compare := time.NewTicker(pollInterval), time.NewTicker(h.interval)
	defer poll.Stop()
	defer compare.Stop()
	for failing := false; ; {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			err = h.poll(ctx)
		case <-compare.C:
			err = h.compare(ctx)
		}
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			if failing = failed; failing {
				h.log.WarnContext(ctx, "valuations are watched without shared prices or versions", "error", err)
			} else {
				h.log.InfoContext(ctx, "valuations are watched as usual again")
			}
		}
	}
}

// poll wakes the streams of portfolios that have changed or are gone. Default ones have the wallets of their owner.
func (h *Hub) poll(ctx context.Context) error {
	named := map[uuid.UUID][]*watcher{}
	var portfolios []portfolio.Portfolio
	h.mu.Lock()
	for _, of := range h.byOwner {
		for w := range of {
			if w.of.Default {
				continue
			}
			if named[w.of.ID] == nil {
				portfolios = append(portfolios, w.of)
			}
			named[w.of.ID] = append(named[w.of.ID], w)
		}
	}
	h.mu.Unlock()
	if len(portfolios) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	versions, err := h.versions.Versions(limited, portfolios)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, watchers := range named {
		for _, w := range watchers {
			if version, exists := versions[id]; !exists || version != w.of.Version {
				w.signal()
			}
		}
	}
	return nil
}

// compare wakes the streams that have told another price than the present one; all of them while they have to look
// for themselves.
func (h *Hub) compare(ctx context.Context) error {
	h.mu.Lock()
	ids := make([]string, 0, len(h.assets))
	for id := range h.assets {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	if h.prices == nil || h.followed == nil || !h.followed() {
		h.WakeAll()
		return nil
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	prices, err := h.prices.Now(ctx, ids)
	if err != nil {
		h.WakeAll()
		return err
	}
	digests := make(map[string]uint64, len(prices))
	for id, p := range prices {
		digests[id] = h.digest(p)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range h.byOwner {
		for w := range of {
			if slices.ContainsFunc(w.seen, func(k known) bool {
				now, asked := digests[k.id]
				return asked && now != k.digest
			}) {
				w.signal()
			}
		}
	}
	return nil
}

// digest tells prices apart; their times are no difference.
func (h *Hub) digest(p valuation.Price) uint64 {
	var d maphash.Hash
	d.SetSeed(h.seed)
	texts := []string{p.Amount, p.Source}
	if !p.Known() {
		texts = []string{p.UnpricedReason}
	}
	for _, text := range texts {
		_ = binary.Write(&d, binary.LittleEndian, int64(len(text)))
		_, _ = d.WriteString(text)
	}
	if p.Stale {
		_ = d.WriteByte(1)
	}
	return d.Sum64()
}

func (h *Hub) add(ctx context.Context, p portfolio.Portfolio) *watcher {
	h.watchers.Add(ctx, 1)
	w := &watcher{hub: h, of: p, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byOwner[p.Owner] == nil {
		h.byOwner[p.Owner] = map[*watcher]struct{}{}
	}
	h.byOwner[p.Owner][w] = struct{}{}
	return w
}

func (w *watcher) remove(ctx context.Context) {
	w.hub.watchers.Add(context.WithoutCancel(ctx), -1)
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.release(w.seen)
	delete(w.hub.byOwner[w.of.Owner], w)
	if len(w.hub.byOwner[w.of.Owner]) == 0 {
		delete(w.hub.byOwner, w.of.Owner)
	}
}

// release ends one use of each of these assets; h.mu is held.
func (h *Hub) release(assets []known) {
	for _, k := range assets {
		if k.users--; k.users == 0 {
			delete(h.assets, k.id)
		}
	}
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // one is pending
	}
}

// saw notes the version and the prices of a state that was worked out.
func (w *watcher) saw(p portfolio.Portfolio, v valuation.Valuation, r currency.Rate) {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.release(w.seen) // those from before, last: so an asset which stays is the same one
	w.seen = make([]known, 0, len(v.Positions)+1)
	w.of.Version = p.Version
	note := func(id string, price valuation.Price) {
		a := h.assets[id]
		if a == nil {
			a = &asset{id: id}
			h.assets[id] = a
		}
		a.users++
		w.seen = append(w.seen, known{a, h.digest(price)})
	}
	for _, p := range v.Positions {
		note(p.TokenID, p.Price)
	}
	if r.Currency != valuation.Currency {
		note(r.Currency, valuation.Price{Amount: r.Price, Source: r.Source, Stale: r.Stale})
	}
}
