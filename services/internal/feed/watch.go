package feed

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// Heartbeat is the longest time between two messages of a stream whose reader takes them.
const Heartbeat = 5 * time.Second

// cursor is a position in a feed: everything up to number was read.
type cursor struct {
	feed   string // what cursors have of the feed's id
	number int64
}

func (c cursor) String() string { return c.feed + "-" + strconv.FormatInt(c.number, 10) }

// shortID is what cursors have of a feed's id.
func shortID(id uuid.UUID) string { return id.String()[:8] }

// cursorRule is what is wrong with a cursor that is none.
const cursorRule = "must be the cursor of a message of the stream, or empty"

func parseCursor(text string) (c cursor, err error) {
	id, digits, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if c = (cursor{id, n}); err != nil || n < 0 || len(id) != 8 || c.String() != text {
		return cursor{}, errs.Invalid("cursor", cursorRule+", "+errs.Given(text))
	}
	return c, nil
}

// CheckCursor returns errs.Invalid on the field cursor for a text that can't be one.
func CheckCursor(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseCursor(text)
	return err
}

func expired(why string) error {
	return errs.FailedPrecondition("CURSOR_EXPIRED", why+"; start anew: open the stream without a cursor, keep the "+
		"cursor of its first message, and read everything as it is now")
}

// Watch sends the changes that a filter selects after a cursor, each once and in order, and then each new one, until
// ctx ends, which is its error, or send fails. An empty cursor is the present one. send is called at once, without
// changes if there are none, and then with at most 250 changes and the cursor after them, without any after each
// [Heartbeat]. It may take its time: meanwhile nothing is kept for it.
//
// errs.Invalid on the field cursor; errs.FailedPrecondition (CURSOR_EXPIRED) for one whose next changes are not kept
// any more, or that another database gave; errs.Unavailable (CHANGES_UNAVAILABLE) while the database can't be read.
func (f *Feed) Watch(ctx context.Context, from string, filter Filter, send func([]Change, string) error) error {
	f.streams.Add(ctx, 1)
	defer f.streams.Add(context.WithoutCancel(ctx), -1)
	w := watch{feed: f, filter: filter, send: send}
	if err := w.open(ctx, from); err != nil {
		return err
	}
	heartbeat := time.NewTicker(Heartbeat)
	defer heartbeat.Stop()
	for due, first := true, true; ; first = false {
		changes, news, err := w.next(ctx)
		if err != nil {
			return err
		}
		if len(changes) > 0 || due {
			if due && !first && !f.Fresh() {
				return unavailable(nil)
			}
			if err := send(changes, cursor{w.id, w.at}.String()); err != nil {
				return err
			}
			due = false
			heartbeat.Reset(Heartbeat)
		}
		if news == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-heartbeat.C:
			due = true
		}
	}
}

// watch is one stream.
type watch struct {
	feed   *Feed
	filter Filter
	send   func([]Change, string) error
	id     string // of the feed, in cursors
	epoch  int
	at     int64 // everything up to this number was sent
}

// open sets where the stream begins.
func (w *watch) open(ctx context.Context, from string) error {
	var c cursor
	if from != "" {
		var err error
		if c, err = parseCursor(from); err != nil {
			return err
		}
	}
	w.feed.mu.Lock()
	w.epoch = w.feed.epoch
	w.feed.mu.Unlock()
	state, err := read(ctx, w.feed.db, -1, Filter{})
	if err != nil {
		return unavailable(err)
	}
	w.id, w.at = shortID(state.id), state.last
	switch {
	case from == "":
		return nil
	case c.feed != w.id || c.number > state.last:
		return expired("the cursor is of another database, or of this one before it was restored")
	}
	w.at = c.number
	return behind(c.number, state)
}

func behind(at int64, b batch) error {
	if at < b.trimmed {
		return expired(fmt.Sprintf("the next changes after the cursor are not kept any more: it is at %d, and what "+
			"is kept begins after %d", at, b.trimmed))
	}
	return nil
}

// next returns the next changes; or when to look again, if there is nothing.
func (w *watch) next(ctx context.Context) (changes []Change, news <-chan struct{}, err error) {
	f := w.feed
	f.mu.Lock()
	last, latest := f.last, f.at(w.at)
	started, replaced := f.id != uuid.Nil, f.epoch > max(w.epoch, 1)
	news = f.news
	f.mu.Unlock()
	switch {
	case replaced:
		return nil, nil, expired("the database was restored")
	case !started || w.at >= last: // nothing new, or this replica has not seen what another has
		return nil, news, nil
	case latest != nil:
		for i, c := range latest {
			if !w.filter.selects(c) {
				continue
			}
			if changes = append(changes, c); len(changes) == maxBatch && i < len(latest)-1 {
				w.at = c.Number
				return changes, nil, nil
			}
		}
		w.at = last
		return changes, news, nil
	}
	b, err := read(ctx, f.db, w.at, w.filter)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	if err := behind(w.at, b); err != nil {
		return nil, nil, err
	}
	w.at = b.end
	return b.changes, nil, nil
}

// at returns the changes after a number, nil if the tail doesn't have them. Nothing in it is changed later.
func (f *Feed) at(number int64) []Change {
	if number < f.from {
		return nil
	}
	i, _ := slices.BinarySearchFunc(f.tail, number+1, func(c Change, n int64) int {
		return int(c.Number - n)
	})
	return f.tail[i:len(f.tail):len(f.tail)]
}
