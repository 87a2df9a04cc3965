package webhook

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/internal/backoff"
	"github.com/purserhq/purser/services/internal/seal"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/work"
)

const (
	// slots is how many messages a replica posts at once, at most one to an endpoint.
	slots = 64
	// poll is how often a replica looks for messages that are due for another attempt, or that another replica left.
	poll = time.Second
	// lease is how long no other replica tries: longer than an attempt and the time to store its result.
	lease = 45 * time.Second
	// recordGrace is how long the result may be stored after the service is to end.
	recordGrace = 5 * time.Second
	// firstRetry is the pause after the first failed attempt, three times as long after each further one up to
	// maxRetry. endpointCooldown is how long an endpoint is left alone for its other messages.
	firstRetry, maxRetry, endpointCooldown = 5 * time.Second, 15 * time.Minute, 30 * time.Second
)

// Claimed is a message that this replica has to post within its lease.
type Claimed struct {
	Endpoint Endpoint
	Alert    alert.Alert
	Attempt  int // from 1
	QueuedAt time.Time
}

// errNoSecret is what an owner is told of a secret that this service can not open.
var errNoSecret = errors.New("this service can not open the secret of the endpoint; rotate it")

// Outbox is the store of messages. Times are the caller's.
type Outbox interface {
	// ClaimDeliveries returns up to n messages that are due, at most one of each endpoint and none of these endpoints,
	// and makes them due again at until.
	ClaimDeliveries(ctx context.Context, now, until time.Time, n int, busy []uuid.UUID) ([]Claimed, error)
	// Delivered records that a message was taken.
	Delivered(ctx context.Context, c Claimed, at time.Time) error
	// Retry records why an attempt failed. The message is due again at due, and no other one of its endpoint before
	// cooldown.
	Retry(ctx context.Context, c Claimed, reason string, due, cooldown time.Time) error
	// GiveUp records why a message is given up.
	GiveUp(ctx context.Context, c Claimed, reason string, at time.Time) error
}

// Deliverer posts what is in the outbox. It is safe for concurrent use.
type Deliverer struct {
	outbox Outbox
	sender *Sender
	sealer *seal.Sealer
	giveUp time.Duration
	log    *slog.Logger
	now    func() time.Time
	loop   *work.Loop

	delivered, failed, dead metric.Int64Counter

	mu   sync.Mutex
	busy map[uuid.UUID]bool // endpoints that are posted to
}

// NewDeliverer returns a deliverer that gives a message up when an attempt fails giveUp or longer after it was queued.
func NewDeliverer(o Outbox, s *Sender, sealer *seal.Sealer, giveUp time.Duration, log *slog.Logger,
	now func() time.Time) *Deliverer {
	d := &Deliverer{outbox: o, sender: s, sealer: sealer, giveUp: giveUp, log: log, now: now,
		busy: map[uuid.UUID]bool{}}
	d.loop = work.New("webhooks", slots, poll, log, d.claim)
	meter := otel.Meter("purser/portfolio/webhook")
	// An instrument that can't be made is a no-op one.
	d.delivered, _ = meter.Int64Counter("webhooks_delivered_total",
		metric.WithDescription("Webhooks that an endpoint has taken."))
	d.failed, _ = meter.Int64Counter("webhooks_failed_total",
		metric.WithDescription("Attempts to deliver a webhook that failed."))
	d.dead, _ = meter.Int64Counter("webhooks_dead_total", metric.WithDescription("Webhooks that were given up."))
	for _, c := range []metric.Int64Counter{d.delivered, d.failed, d.dead} {
		c.Add(context.Background(), 0) // so that the first one is an increase
	}
	return d
}

// Run posts what is due until ctx ends.
func (d *Deliverer) Run(ctx context.Context) error {
	defer d.sender.Close()
	return d.loop.Run(ctx)
}

// Wake starts the next poll without waiting for its time.
func (d *Deliverer) Wake() { d.loop.Wake() }

func (d *Deliverer) claim(ctx context.Context, n int) (pieces []func(context.Context), err error) {
	d.mu.Lock()
	busy := slices.Collect(maps.Keys(d.busy))
	d.mu.Unlock()
	now := d.now()
	claimed, err := d.outbox.ClaimDeliveries(ctx, now, now.Add(lease), n, busy)
	for _, c := range claimed {
		d.setBusy(c.Endpoint.ID, true)
		pieces = append(pieces, func(ctx context.Context) {
			defer d.setBusy(c.Endpoint.ID, false)
			if err := d.deliver(ctx, c); err != nil {
				d.log.WarnContext(ctx, "the result of a webhook was not stored, so it is posted again", "alert",
					c.Alert.ID, "endpoint", c.Endpoint.ID, "error", err)
			}
		})
	}
	return pieces, err
}

func (d *Deliverer) setBusy(endpoint uuid.UUID, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if busy {
		d.busy[endpoint] = true
	} else {
		delete(d.busy, endpoint)
	}
}

// deliver makes one attempt and records its result, also when ctx has ended. An attempt that the end of ctx has cut
// short has none: the message is due again after its lease.
func (d *Deliverer) deliver(ctx context.Context, c Claimed) error {
	failure := d.post(ctx, c)
	if failure != nil && ctx.Err() != nil {
		return nil
	}
	ctx, done := deadline.Grace(ctx, recordGrace)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, lease-postTimeout)
	defer cancel()
	now := d.now()
	if failure == nil {
		d.delivered.Add(ctx, 1)
		return d.outbox.Delivered(ctx, c, now)
	}
	d.failed.Add(ctx, 1)
	if now.Sub(c.QueuedAt) >= d.giveUp {
		d.dead.Add(ctx, 1)
		d.log.WarnContext(ctx, "webhook given up", "alert", c.Alert.ID, "endpoint", c.Endpoint.ID, "attempt",
			c.Attempt, "error", failure)
		return d.outbox.GiveUp(ctx, c, failure.Error(), now)
	}
	pause := backoff.Tripled(c.Attempt, firstRetry, maxRetry)
	return d.outbox.Retry(ctx, c, failure.Error(), now.Add(pause), now.Add(min(pause, endpointCooldown)))
}

func (d *Deliverer) post(ctx context.Context, c Claimed) error {
	now := d.now()
	body, err := Body(c.Alert)
	if err != nil {
		return err
	}
	secrets, err := c.Endpoint.secrets(d.sealer, now)
	if err != nil {
		d.log.ErrorContext(ctx, "the secret of a webhook endpoint can't be opened", "endpoint", c.Endpoint.ID, "error",
			err)
		return errNoSecret
	}
	return d.sender.Post(ctx, c.Endpoint.URL, c.Alert.ID.String(), now, body, secrets)
}
