// Package feed is the changes of a service's data, in one order that readers can follow by a cursor.
//
// It promises: a change that is committed is read after every cursor that was given before the commit, once, also when
// other transactions were open meanwhile or processes died; the changes of an owner are in the order of their commits
// where each took a lock on the same rows before it called [Append]; a change whose transaction was rolled back is
// never read; a reader whose next changes were trimmed is told so. A stream keeps nothing in memory: one that is
// behind reads from the database again.
//
// The order is that of numbers that committed changes are given under a lock, by whoever reads. A number taken before
// the commit, from a sequence, would be behind a cursor that has passed it. An open transaction delays nobody else's
// changes. It needs nothing of a session, so it works behind PgBouncer in transaction mode; a replica that has
// replayed a number has replayed all lower ones.
//
// Limits: changes of an owner that took no common lock are in any order. Redis only wakes readers; without it a
// change is read within [Poll] and the duration of a query. After a restore from a backup, change_feed.id has to be
// changed, or cursors issued after the backup would match other changes.
package feed

import (
	"context"
	_ "embed" // for Schema
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
)

// Schema is the tables. A service puts it into a migration of its own.
//
//go:embed schema.sql
var Schema string

const (
	// Poll is how often a process looks for changes that it was not woken for.
	Poll = 500 * time.Millisecond
	// wakePause is the least time between two polls, so that many wakes are one.
	wakePause = 10 * time.Millisecond
	// maxTail is how many of the latest changes a process keeps for its streams, and at most twice as many.
	maxTail = 4096
	// staleAfter is how old the last successful poll may be while streams go on.
	staleAfter = 5 * time.Second
)

// Change is one of an owner's, or of what is everybody's.
type Change struct {
	Number  int64     // in the feed; 0 before it is read
	Owner   uuid.UUID // uuid.Nil for everybody
	Kind    string
	Subject uuid.UUID // what changed; uuid.Nil for all of the owner's
	Version int64     // of the subject after the change, as its kind counts
	Detail  string    // what else the kind says
	At      time.Time // when it was made, a moment before its commit
}

// Filter selects changes; the zero Filter selects all.
type Filter struct {
	Owner uuid.UUID // one owner's, if not uuid.Nil
	// Shard, from 0, of Shards: the changes of owners whose id has a last byte with this remainder, and those of
	// everybody; of all when Shards is 0. Not together with Owner.
	Shard, Shards int
}

func (f Filter) selects(c Change) bool {
	if f.Owner != uuid.Nil {
		return c.Owner == f.Owner
	}
	return f.Shards == 0 || c.Owner == uuid.Nil || int(c.Owner[15])%f.Shards == f.Shard
}

// Feed reads the changes of a database. Each replica runs one, with [Feed.Run]. It is safe for concurrent use.
type Feed struct {
	db      *postgres.DB
	redis   redis.UniversalClient
	channel string
	log     *slog.Logger
	wake    chan struct{} // has a signal since something may have changed
	changed chan struct{} // has a signal since other replicas are to be woken

	numbered metric.Int64Counter
	streams  metric.Int64UpDownCounter

	mu     sync.Mutex
	id     uuid.UUID // of the feed; uuid.Nil before the first poll
	epoch  int       // rises when the feed is another than before
	tail   []Change  // those after from and up to last, in order
	from   int64
	last   int64
	readAt time.Time     // when the last successful poll began
	news   chan struct{} // closed and replaced when last rises, or the epoch
}

// New returns the feed in a database that has [Schema], whose replicas wake each other over r by a channel of the name
// of the service. r may be nil.
func New(db *postgres.DB, r redis.UniversalClient, service string, log *slog.Logger) *Feed {
	// An instrument that can't be made is a no-op one.
	meter := otel.Meter("purser/feed")
	numbered, _ := meter.Int64Counter("changes_numbered_total",
		metric.WithDescription("Changes that this replica has given their place in the feed."))
	streams, _ := meter.Int64UpDownCounter("change_streams", metric.WithDescription("Streams that read the feed."))
	numbered.Add(context.Background(), 0)
	streams.Add(context.Background(), 0)
	return &Feed{db: db, redis: r, channel: "purser:" + service + ":changes", log: log, numbered: numbered,
		streams: streams, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), news: make(chan struct{})}
}

// Wake tells the readers of all replicas that a change was committed. It neither blocks nor fails: without it, the
// change is read a little later.
func (f *Feed) Wake() {
	signal(f.wake)
	signal(f.changed)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is pending
	}
}

// Run looks for changes until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	if f.redis != nil {
		others.Go(func() { f.notifyReplicas(ctx) })
		others.Go(func() { f.listen(ctx) })
	}
	tick := time.NewTicker(Poll)
	defer tick.Stop()
	for failing := false; ; {
		err := f.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != failing {
			if failing = err != nil; failing {
				f.log.WarnContext(ctx, "the feed of changes can't be read", "error", err)
			} else {
				f.log.InfoContext(ctx, "the feed of changes is read again")
			}
		}
		pause := time.NewTimer(wakePause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-tick.C:
		}
	}
}

// notifyReplicas wakes the other replicas.
func (f *Feed) notifyReplicas(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		}
		// Redis may be away; others poll by themselves then.
		limited, cancel := context.WithTimeout(ctx, time.Second)
		_ = f.redis.Publish(limited, f.channel, "").Err()
		cancel()
	}
}

// listen wakes this replica. Go-redis reconnects by itself; each new subscription wakes too, since something may
// have been missed.
func (f *Feed) listen(ctx context.Context) {
	sub := f.redis.Subscribe(ctx)
	events := sub.ChannelWithSubscriptions()
	_ = sub.Subscribe(ctx, f.channel) // go-redis repeats it on each connection
	defer func() { _ = sub.Close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				return
			}
			signal(f.wake)
		}
	}
}

// poll gives numbers to what was committed and reads it, until there is no more.
func (f *Feed) poll(ctx context.Context) error {
	for {
		begun := time.Now()
		f.mu.Lock()
		after, known := f.last, f.id != uuid.Nil
		f.mu.Unlock()
		if !known {
			after = -1 // only the state
		}
		b, err := read(ctx, f.db, after, Filter{})
		if err != nil {
			return err
		}
		f.merge(b, begun)
		more := b.end < b.last
		if !more && b.waiting {
			n, err := number(ctx, f.db)
			if err != nil {
				return err
			}
			f.numbered.Add(ctx, int64(n))
			more = true // also if another replica has numbered them meanwhile
		}
		if !more {
			return nil
		}
	}
}

// merge adds what was read to the tail, and wakes the streams.
func (f *Feed) merge(b batch, begun time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readAt = begun
	switch {
	case b.id != f.id || b.last < f.last || b.trimmed > f.last: // the first poll, or the database was replaced
		f.id, f.tail, f.from, f.last = b.id, nil, b.last, b.last
		f.epoch++
	case b.end > f.last:
		f.tail, f.last = append(f.tail, b.changes...), b.end
		if over := len(f.tail) - maxTail; over > maxTail { // half of it at a time
			f.from = f.tail[over-1].Number
			f.tail = slices.Clone(f.tail[over:])
		}
	default:
		return
	}
	close(f.news)
	f.news = make(chan struct{})
}

// Fresh reports whether the feed was read within the last 5 seconds.
func (f *Feed) Fresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.readAt) < staleAfter
}

// unavailable is the error of a feed that can't be read.
func unavailable(cause error) error {
	var typed *errs.Error
	if errors.As(cause, &typed) {
		return cause
	}
	return errs.Unavailable("CHANGES_UNAVAILABLE", "changes can't be read now; continue after the cursor of the last "+
		"message").After(time.Second).Because(cause)
}
