package revocation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// Reader is told what one stream of a feed has not been told yet. It is used by
// one goroutine.
type Reader struct {
	feed  *Feed
	at    int // the number of the last entry that it was told
	epoch int64
	began bool
}

// Reader returns a reader that was told nothing.
func (f *Feed) Reader() *Reader { return &Reader{feed: f} }

// Next waits until there is news, and returns it, at most AtOnce revocations;
// without any after a heartbeat. errs.Unavailable (REVOCATIONS_UNAVAILABLE)
// when the database has not been read for some seconds.
func (r *Reader) Next(ctx context.Context) (authn.RevocationUpdate, time.Time, error) {
	beat := time.NewTimer(authn.RevocationHeartbeat)
	defer beat.Stop()
	for due := false; ; {
		news, at, wait, err := r.look(due)
		if err != nil || wait == nil {
			return news, at, err
		}
		select {
		case <-ctx.Done():
			return news, at, ctx.Err()
		case <-beat.C:
			due = true
		case <-wait:
		}
	}
}

// look returns news, or what to wait for when there is none and none is due.
func (r *Reader) look(due bool) (news authn.RevocationUpdate, readAt time.Time, wait <-chan struct{}, err error) {
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fresh() {
		return news, readAt, nil, errs.Unavailable("REVOCATIONS_UNAVAILABLE", "what was revoked can't be read now")
	}
	from, _ := slices.BinarySearchFunc(f.entries, r.at+1,
		func(e numbered, number int) int { return cmp.Compare(e.number, number) })
	left := f.entries[from:]
	if len(left) == 0 && r.began && r.epoch == f.epoch && !due {
		return news, readAt, f.news, nil
	}
	var some []Entry
	for _, e := range left[:min(len(left), AtOnce)] {
		some, r.at = append(some, e.Entry), e.number
	}
	news = authn.RevocationUpdate{Epoch: f.epoch, Revoked: f.policy.told(some), CaughtUp: len(some) == len(left)}
	r.epoch, r.began = f.epoch, true
	return news, f.readAt, nil, nil
}
