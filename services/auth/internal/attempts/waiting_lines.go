package attempts

import (
	"context"
	"sync"
	"time"

	"github.com/purserhq/purser/services/auth/internal/fairqueue"
	"github.com/purserhq/purser/services/internal/bucket"
)

const (
	// maxWait is how long an attempt waits for its address.
	maxWait = 5 * time.Second
	// maxLine is how many attempts wait for one address, maxLines for all of them.
	maxLine, maxLines = 64, 2048
)

// lines have the attempts that wait until the bucket of their address is refilled: one line for each address, in which
// accounts take turns. So whoever guesses at an account from an address that others share waits behind themselves. No
// goroutine is started for a line. It is safe for concurrent use.
type lines struct {
	local *bucket.Local

	mu      sync.Mutex
	lines   map[string]*line // by address; never empty
	waiting int
}

type line struct {
	bucket bucket.Bucket
	turns  fairqueue.Queue[*waiter]
	timer  *time.Timer // calls serve
}

// waiter is an attempt in a line. ready is closed when it was charged, with undo, or dropped.
type waiter struct {
	ready chan struct{}
	undo  func()
}

func newLines(own *bucket.Local) *lines { return &lines{local: own, lines: map[string]*line{}} }

// take charges an attempt on an account to the bucket b of its address, as soon as that has one left. It returns how
// long to wait when that takes too long, or the line is full; ctx's error when it ends.
func (l *lines) take(ctx context.Context, b bucket.Bucket, account string) (refund func(), wait time.Duration,
	err error) {
	l.mu.Lock()
	line := l.lines[b.Key]
	if line == nil {
		undo, wait := l.local.Take(ctx, b)
		if wait == 0 || wait > maxWait || l.waiting >= maxLines {
			l.mu.Unlock()
			return func() { l.refund(b, undo) }, wait, nil
		}
		line = l.open(b, wait)
	}
	w := l.join(line, account)
	l.mu.Unlock()

	late := time.NewTimer(maxWait)
	defer late.Stop()
	select {
	case <-w.ready:
	case <-late.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.undo != nil {
		return func() { l.refund(b, w.undo) }, 0, nil
	}
	if line.turns.Remove(account, w) {
		l.left(line)
	}
	return nil, b.RefillInterval(), ctx.Err()
}

// try is take without waiting.
func (l *lines) try(ctx context.Context, b bucket.Bucket) (refund func(), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines[b.Key] != nil { // and who waits comes first
		return nil, b.RefillInterval()
	}
	undo, wait := l.local.Take(ctx, b)
	return func() { l.refund(b, undo) }, wait
}

// open begins the line of an address, whose bucket has one left after wait.
func (l *lines) open(b bucket.Bucket, wait time.Duration) *line {
	line := &line{bucket: b}
	line.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.serve(line)
	})
	l.lines[b.Key] = line
	return line
}

// join adds an attempt. In a full line one of the account with the most is dropped, which may be this.
func (l *lines) join(line *line, account string) *waiter {
	w := &waiter{ready: make(chan struct{})}
	line.turns.Push(account, w)
	l.waiting++
	if line.turns.Len() > maxLine || l.waiting > maxLines {
		close(line.turns.DropNewest().ready)
		l.left(line)
	}
	return w
}

// left notes that one has left a line, which ends when it was the last.
func (l *lines) left(line *line) {
	l.waiting--
	if line.turns.Len() == 0 && l.lines[line.bucket.Key] == line {
		line.timer.Stop()
		delete(l.lines, line.bucket.Key)
	}
}

// serve charges those who wait, in turns, for as long as the bucket has any left.
func (l *lines) serve(line *line) {
	for {
		w, ok := line.turns.Next()
		if !ok {
			return
		}
		undo, wait := l.local.Take(context.Background(), line.bucket)
		if wait > 0 {
			line.timer.Reset(wait)
			return
		}
		line.turns.Pop()
		l.left(line)
		w.undo = undo
		close(w.ready)
	}
}

// refund gives an attempt back, to who is next.
func (l *lines) refund(b bucket.Bucket, undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	undo()
	if line := l.lines[b.Key]; line != nil {
		l.serve(line)
	}
}
