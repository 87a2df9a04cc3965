package revocation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// Reader is the position of one stream in a feed. It is not safe for concurrent
// use.
type Reader struct {
	feed       *Feed
	lastNumber int // number of the last entry that it returned
	epoch      int64
	started    bool // Next has returned once
}

// Reader returns a reader that starts with the oldest entry.
func (f *Feed) Reader() *Reader { return &Reader{feed: f} }

// Next waits for entries that this reader has not returned, or a new epoch, and
// returns up to MaxPerNews of them with the time of the poll; after
// authn.RevocationHeartbeat it returns without any. The first call does not wait.
// errs.Unavailable (REVOCATIONS_UNAVAILABLE) when the feed is not Fresh.
func (r *Reader) Next(ctx context.Context) (authn.RevocationUpdate, time.Time, error) {
	beat := time.NewTimer(authn.RevocationHeartbeat)
	defer beat.Stop()
	for heartbeatDue := false; ; {
		news, at, wait, err := r.poll(heartbeatDue)
		if err != nil || wait == nil {
			return news, at, err
		}
		select {
		case <-ctx.Done():
			return news, at, ctx.Err()
		case <-beat.C:
			heartbeatDue = true
		case <-wait:
		}
	}
}

// poll returns news, or the channel to wait for when there is none and no
// heartbeat is due.
func (r *Reader) poll(heartbeatDue bool) (news authn.RevocationUpdate, readAt time.Time, wait <-chan struct{},
	err error) {
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fresh() {
		return news, readAt, nil, errs.Unavailable("REVOCATIONS_UNAVAILABLE", "revocations can't be read now")
	}
	from, _ := slices.BinarySearchFunc(f.entries, r.lastNumber+1,
		func(e numberedEntry, number int) int { return cmp.Compare(e.number, number) })
	unread := f.entries[from:]
	if len(unread) == 0 && r.started && r.epoch == f.epoch && !heartbeatDue {
		return news, readAt, f.updated, nil
	}
	var entries []Entry
	for _, e := range unread[:min(len(unread), MaxPerNews)] {
		entries, r.lastNumber = append(entries, e.Entry), e.number
	}
	news = authn.RevocationUpdate{Epoch: f.epoch, Revoked: f.policy.revoked(entries),
		CaughtUp: len(entries) == len(unread)}
	r.epoch, r.started = f.epoch, true
	return news, f.readAt, nil, nil
}
