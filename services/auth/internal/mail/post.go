package mail

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// taken is for how long a mail is nobody else's once it was taken: longer
	// than sending one can take.
	taken = time.Minute
	// batch is how many mails are taken, and sent side by side.
	batch = 4
)

// Taken is a mail that is this replica's to send.
type Taken struct {
	Mail
	Attempt int // from 1
}

// Store is where mails wait. Times are the database's.
type Store interface {
	// Take returns at most n mails that are due, oldest first, and puts them off
	// for that long, so that no other replica takes them meanwhile.
	Take(ctx context.Context, n int, putOff time.Duration) ([]Taken, error)
	// Sent erases a mail that was sent.
	Sent(ctx context.Context, id uuid.UUID) error
	// PutOff notes why an attempt failed, and when to try again.
	PutOff(ctx context.Context, id uuid.UUID, reason string, again time.Duration) error
	// GiveUp erases a mail that can't be sent, and notes why.
	GiveUp(ctx context.Context, id uuid.UUID, reason string) error
}

// Carrier sends one mail; *SMTP is one. A RefusedError when trying again can't
// help. An error says nothing of the mail's receiver or content.
type Carrier interface {
	Carry(ctx context.Context, m Mail) error
}

// RefusedError is the answer of a server that will never take a mail.
type RefusedError struct{ Reason string }

// Error implements error.
func (r *RefusedError) Error() string { return r.Reason }

// Post sends what is queued. Any number may run at once.
type Post struct {
	store    Store
	carrier  Carrier
	attempts int
	log      *slog.Logger

	sent, failed, dead metric.Int64Counter
}

// NewPost sends by a carrier, and gives a mail up after this many attempts.
func NewPost(s Store, c Carrier, attempts int, log *slog.Logger) *Post {
	p := &Post{store: s, carrier: c, attempts: attempts, log: log}
	meter := otel.Meter("github.com/purserhq/purser/services/auth/mail")
	// An instrument that can't be made is a no-op one.
	p.sent, _ = meter.Int64Counter("mails_sent_total", metric.WithDescription("Mails that the SMTP server took."))
	p.failed, _ = meter.Int64Counter("mails_failed_total",
		metric.WithDescription("Attempts to send a mail that failed."))
	p.dead, _ = meter.Int64Counter("mails_dead_total", metric.WithDescription("Mails that were given up."))
	return p
}

// Serve delivers whenever it is woken, until ctx ends. What it doesn't deliver
// is left to a job that calls Deliver.
func (p *Post) Serve(ctx context.Context, woken <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
			if err := p.Deliver(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("mails can't be sent now", "error", err)
			}
		}
	}
}

// Deliver sends what is due until nothing is. That a mail couldn't be sent is
// noted and no error.
func (p *Post) Deliver(ctx context.Context) error {
	for {
		mails, err := p.store.Take(ctx, batch, taken)
		if err != nil || len(mails) == 0 {
			return err
		}
		failures := make([]error, len(mails))
		var all sync.WaitGroup
		for i, m := range mails {
			all.Go(func() { failures[i] = p.send(ctx, m) })
		}
		all.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
}

func (p *Post) send(ctx context.Context, m Taken) error {
	kind := metric.WithAttributes(attribute.String("kind", string(m.Kind)))
	failure := p.carrier.Carry(ctx, m.Mail)
	// What came of it is noted also when ctx has ended meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if failure == nil {
		p.sent.Add(ctx, 1, kind)
		return p.store.Sent(ctx, m.ID)
	}
	p.failed.Add(ctx, 1, kind)
	var refusal *RefusedError
	if errors.As(failure, &refusal) || m.Attempt >= p.attempts {
		p.dead.Add(ctx, 1, kind)
		p.log.Error("mail given up", "mail", m.ID, "kind", m.Kind, "attempt", m.Attempt, "error", failure)
		return p.store.GiveUp(ctx, m.ID, failure.Error())
	}
	again := backoff(m.Attempt)
	p.log.Warn("mail not sent", "mail", m.ID, "kind", m.Kind, "attempt", m.Attempt, "error", failure, "again_in",
		again)
	return p.store.PutOff(ctx, m.ID, failure.Error(), again)
}

// backoff after the attempt-th failure: 10 s, 30 s, 90 s … an hour.
func backoff(attempt int) time.Duration {
	wait := 10 * time.Second
	for range attempt - 1 {
		if wait *= 3; wait >= time.Hour {
			return time.Hour
		}
	}
	return wait
}
