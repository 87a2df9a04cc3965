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

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/internal/backoff"
)

const (
	// mailLease is how long one replica owns a claimed mail before another may
	// claim it. It is longer than smtpTimeout plus the time to store the result.
	mailLease = time.Minute
	// claimBatch is how many mails are claimed at once and sent concurrently.
	claimBatch = 4
	// recordGrace is how long the result of an attempt may be recorded after ctx has ended. A database that is slow
	// has all of the lease: a mail whose result is not recorded is sent again.
	recordGrace = 5 * time.Second
	// firstRetry is the delay after the first failed attempt, three times as long after each further one up to
	// maxRetry.
	firstRetry, maxRetry = 10 * time.Second, time.Hour
)

// Claimed is a mail that this replica has to send within its lease.
type Claimed struct {
	Mail
	Attempt int // number of this attempt, from 1
}

// Store is the database of the outbox. Times are by the database's clock.
type Store interface {
	// Claim returns up to n mails that are due, oldest first, and hides them
	// from other claims for lease.
	Claim(ctx context.Context, n int, lease time.Duration) ([]Claimed, error)
	// MarkSent erases the content of a mail that was sent.
	MarkSent(ctx context.Context, id uuid.UUID) error
	// Retry records why an attempt failed, and makes the mail due in retryIn.
	Retry(ctx context.Context, id uuid.UUID, reason string, retryIn time.Duration) error
	// MarkFailed records why a mail can't be sent, and erases its content.
	MarkFailed(ctx context.Context, id uuid.UUID, reason string) error
}

// Transport sends mails; *SMTP is one. It is safe for concurrent use.
type Transport interface {
	// Send sends one mail. *RefusedError when a retry would fail, too. The text
	// of an error contains neither the mail's receiver nor its content.
	Send(ctx context.Context, m Mail) error
}

// RefusedError says that a server refused a mail permanently.
type RefusedError struct{ Reason string }

// Error implements error.
func (r *RefusedError) Error() string { return r.Reason }

// Outbox sends the mails that were queued in the database. Outboxes of several
// replicas can run concurrently; each mail is claimed by one of them.
type Outbox struct {
	store       Store
	transport   Transport
	maxAttempts int
	log         *slog.Logger

	sent, failed, dead metric.Int64Counter
}

// NewOutbox returns an outbox that gives a mail up after maxAttempts attempts.
func NewOutbox(s Store, c Transport, maxAttempts int, log *slog.Logger) *Outbox {
	o := &Outbox{store: s, transport: c, maxAttempts: maxAttempts, log: log}
	meter := otel.Meter("github.com/purserhq/purser/services/auth/mail")
	// An instrument that can't be made is a no-op one.
	o.sent, _ = meter.Int64Counter("mails_sent_total", metric.WithDescription("Mails that the SMTP server accepted."))
	o.failed, _ = meter.Int64Counter("mails_failed_total",
		metric.WithDescription("Attempts to send a mail that failed."))
	o.dead, _ = meter.Int64Counter("mails_dead_total",
		metric.WithDescription("Mails that were given up: refused, or out of attempts."))
	for _, kind := range kinds() {
		for _, c := range []metric.Int64Counter{o.sent, o.failed, o.dead} {
			c.Add(context.Background(), 0, ofKind(kind)) // so that the first one is an increase
		}
	}
	return o
}

func ofKind(k Kind) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("kind", string(k)))
}

// Run calls SendDue for each receive from queued, until ctx ends. Mails whose
// retry is due later are sent by a job that calls SendDue (outbox sweep).
func (o *Outbox) Run(ctx context.Context, queued <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-queued:
			if err := o.SendDue(ctx); err != nil && ctx.Err() == nil {
				o.log.Warn("mails can't be sent now", "error", err)
			}
		}
	}
}

// SendDue sends mails until none is due. A failure to send a mail is recorded with
// the mail and is not returned; an error is one of the database.
func (o *Outbox) SendDue(ctx context.Context) error {
	for {
		mails, err := o.store.Claim(ctx, claimBatch, mailLease)
		if err != nil || len(mails) == 0 {
			return err
		}
		failures := make([]error, len(mails))
		var all sync.WaitGroup
		for i, m := range mails {
			all.Go(func() { failures[i] = o.send(ctx, m) })
		}
		all.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
}

func (o *Outbox) send(ctx context.Context, m Claimed) error {
	kind := ofKind(m.Kind)
	failure := o.transport.Send(ctx, m.Mail)
	// The result is recorded even when ctx has ended.
	ctx, done := deadline.Grace(ctx, recordGrace)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, mailLease)
	defer cancel()
	if failure == nil {
		o.sent.Add(ctx, 1, kind)
		return o.store.MarkSent(ctx, m.ID)
	}
	o.failed.Add(ctx, 1, kind)
	var refusal *RefusedError
	if errors.As(failure, &refusal) || m.Attempt >= o.maxAttempts {
		o.dead.Add(ctx, 1, kind)
		o.log.Error("mail given up", "mail", m.ID, "kind", m.Kind, "attempt", m.Attempt, "error", failure)
		return o.store.MarkFailed(ctx, m.ID, failure.Error())
	}
	retryIn := backoff.Tripled(m.Attempt, firstRetry, maxRetry)
	o.log.Warn("mail not sent", "mail", m.ID, "kind", m.Kind, "attempt", m.Attempt, "error", failure, "retry_in",
		retryIn)
	return o.store.Retry(ctx, m.ID, failure.Error(), retryIn)
}
