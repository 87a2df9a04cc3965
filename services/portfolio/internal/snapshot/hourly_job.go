package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const (
	// maxJobOwners and maxJobPositions limit one transaction of the hourly job: maxJobOwners is also that of
	// portfolios. An owner with more positions than that is a batch of their own.
	maxJobOwners    = 200
	maxJobPositions = 10_000
	// maxJobBatches is how many batches are stored at a time, while the next one is read: the database works on one
	// while another is valued.
	maxJobBatches = 2
)

// DuePortfolios are the portfolios of all users that lack a snapshot.
type DuePortfolios interface {
	// DueForSnapshot returns the portfolios of these owners that have no complete snapshot
	// in this bucket, with their memberships in it. One that has no wallets is returned
	// once, for the snapshot that says so.
	DueForSnapshot(ctx context.Context, bucket time.Time, owners []uuid.UUID) ([]portfolio.Member, error)
}

// OwnerHoldings is what an owner's wallets hold now.
type OwnerHoldings struct {
	Owner    uuid.UUID
	Wallets  []valuation.Wallet
	Holdings []valuation.Holding
	// TooMany: there are more than can be valued, and Holdings has not all of them.
	TooMany bool
}

// ShardReader reads what all users' wallets hold.
type ShardReader interface {
	// ReadShard calls visit with the holdings of each owner of one of shards shards. It
	// stops with the first error, which can be visit's; errs.Unavailable
	// (WALLET_UNAVAILABLE).
	ReadShard(ctx context.Context, shard, shards int, visit func(OwnerHoldings) error) error
}

// HourlyJob takes the current hour's snapshot of every portfolio, as this service's
// own account. It is safe for concurrent use.
//
// It promises: snapshots taken before a failure stay, and the next attempt goes on
// with the portfolios that lack one. It fails and stores nothing while the wallet
// service is unavailable, and while auth is for longer than the service's token
// lasts: an hour that passes like this has no snapshot. Holdings of at most 600 owners
// are in memory, and the number of statements for 200 doesn't grow with them.
type HourlyJob struct {
	portfolios    DuePortfolios
	current       Holdings
	store         Store
	holdings      ShardReader
	asThisService func(context.Context) (context.Context, error)
	log           *slog.Logger
	now           func() time.Time
}

// NewHourlyJob returns the job. asThisService returns a context for calls with a
// token of this service's own account.
func NewHourlyJob(p DuePortfolios, current Holdings, s Store, r ShardReader,
	asThisService func(context.Context) (context.Context, error), log *slog.Logger, now func() time.Time) *HourlyJob {
	return &HourlyJob{portfolios: p, current: current, store: s, holdings: r, asThisService: asThisService,
		log: log, now: now}
}

// Run takes the snapshots that are due in one shard of all owners. It skips portfolios
// without wallets and those that can't be valued.
func (j *HourlyJob) Run(ctx context.Context, shard, shards int) error {
	ctx, err := j.asThisService(ctx)
	if err != nil {
		return err
	}
	r := &jobRun{HourlyJob: j, bucket: j.now().UTC().Truncate(time.Hour)}
	r.saves.SetLimit(maxJobBatches)
	err = j.holdings.ReadShard(ctx, shard, shards, func(h OwnerHoldings) error { return r.add(ctx, h) })
	// What was read before an error is stored all the same.
	r.flush(ctx)
	if err := errors.Join(err, r.saves.Wait()); err != nil {
		return err
	}
	j.log.InfoContext(ctx, "snapshots taken", "hour", r.bucket, "shard", shard, "stored", r.stored.Load(),
		"skipped", r.skipped.Load())
	return nil
}

// jobRun is the state of one run.
type jobRun struct {
	*HourlyJob
	bucket    time.Time
	owners    []OwnerHoldings // that are collected
	positions int             // of these

	saves           errgroup.Group
	failed          atomic.Bool // one of them
	stored, skipped atomic.Int64
}

// errSaveFailed ends the reading of a run: the error is that of saves.
var errSaveFailed = errors.New("a batch of snapshots was not stored")

// add collects an owner, and begins to store what is collected when that is enough.
func (r *jobRun) add(ctx context.Context, h OwnerHoldings) error {
	if h.TooMany {
		r.log.WarnContext(ctx, "an owner with more holdings than can be valued is skipped", "owner", h.Owner)
		r.skipped.Add(1)
		return nil
	}
	if len(h.Wallets) == 0 {
		return nil
	}
	r.owners, r.positions = append(r.owners, h), r.positions+len(h.Holdings)
	if len(r.owners) >= maxJobOwners || r.positions >= maxJobPositions {
		r.flush(ctx)
	}
	if r.failed.Load() {
		return errSaveFailed
	}
	return nil
}

// flush begins to store the snapshots of the owners that were collected, once fewer than maxJobBatches batches are
// being stored.
func (r *jobRun) flush(ctx context.Context) {
	owners := r.owners
	r.owners, r.positions = nil, 0
	if len(owners) == 0 {
		return
	}
	r.saves.Go(func() error {
		err := r.saveAll(ctx, owners)
		if err != nil {
			r.failed.Store(true)
		}
		return err
	})
}

// saveAll stores the snapshots of owners.
func (r *jobRun) saveAll(ctx context.Context, owners []OwnerHoldings) error {
	held := make(map[uuid.UUID]OwnerHoldings, len(owners))
	ids := make([]uuid.UUID, len(owners))
	for i, o := range owners {
		held[o.Owner], ids[i] = o, o.Owner
	}
	due, err := r.portfolios.DueForSnapshot(ctx, r.bucket, ids)
	if err != nil || len(due) == 0 {
		return err
	}
	at := r.now().UTC()
	if at.Truncate(time.Hour).After(r.bucket) { // the hour has passed meanwhile
		at = r.bucket.Add(time.Hour - time.Microsecond)
	}
	for len(due) > 0 { // owners may have many portfolios
		n, positions := 0, 0
		for n < min(len(due), maxJobOwners) && (n == 0 || positions < maxJobPositions) {
			positions += len(held[due[n].Owner].Holdings)
			n++
		}
		if err := r.save(ctx, due[:n], held, at); err != nil {
			return err
		}
		due = due[n:]
	}
	return nil
}

// save stores the snapshots of portfolios.
func (r *jobRun) save(ctx context.Context, due []portfolio.Member, held map[uuid.UUID]OwnerHoldings,
	at time.Time) error {
	all, due, err := r.assets(ctx, due, held, at)
	if err != nil || len(due) == 0 {
		return err
	}
	if err := r.store.AdoptPrices(ctx, all); err != nil {
		return err
	}
	var values []Valued
	for i, p := range due {
		v, err := all[i].Value()
		if err != nil {
			return err
		}
		if rejectUnknownZero(v) != nil { // one that can't be valued doesn't stop the job
			r.skipped.Add(1)
			continue
		}
		values = append(values, Valued{p.Portfolio, v})
	}
	stored, err := r.store.SaveHour(ctx, r.bucket, values)
	r.stored.Add(int64(stored))
	return err
}

// assets returns what the portfolios hold, of the owners whose holdings were read, and
// which portfolios these are. A portfolio whose wallets are not those that its owner had
// last is read once more by itself, since its membership was read after the holdings: a
// wallet that is missing in these may have been added since.
func (r *jobRun) assets(ctx context.Context, due []portfolio.Member, held map[uuid.UUID]OwnerHoldings,
	at time.Time) (all []valuation.Assets, of []portfolio.Member, err error) {
	for _, p := range due {
		o := held[p.Owner]
		m := p.Membership
		if m.Named && len(m.Gone(o.Wallets)) > 0 || !m.Named && m.Digest != portfolio.Digest(o.Wallets) {
			assets, err := r.current.Assets(ctx, p.Portfolio)
			if err != nil { // of one owner, which doesn't stop the job
				r.log.WarnContext(ctx, "a portfolio whose wallets changed is skipped", "portfolio", p.ID, "error", err)
				r.skipped.Add(1)
				continue
			}
			if assets.At = at; assets.Membership == portfolio.NoNumber {
				r.skipped.Add(1)
				continue
			}
			all, of = append(all, assets), append(of, p)
			continue
		}
		assets, err := m.Assets(o.Wallets, o.Holdings, at)
		if err != nil {
			return nil, nil, err
		}
		all, of = append(all, assets), append(of, p)
	}
	return all, of, nil
}
