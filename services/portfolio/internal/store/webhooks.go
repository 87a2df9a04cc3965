package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

type endpointRow struct {
	OwnerID         uuid.UUID `gorm:"primaryKey"`
	ID              uuid.UUID `gorm:"primaryKey"`
	URL             string
	Sealed          []byte
	Wrapped         []byte
	PreviousSealed  []byte
	PreviousWrapped []byte
	PreviousUntil   *time.Time
	CreatedAt       time.Time
}

func (endpointRow) TableName() string { return "webhook_endpoints" }

func (r endpointRow) endpoint() webhook.Endpoint {
	return webhook.Endpoint{ID: r.ID, Owner: r.OwnerID, URL: r.URL, CreatedAt: r.CreatedAt.UTC(),
		Secret:        webhook.Sealed{Text: r.Sealed, Key: r.Wrapped},
		Previous:      webhook.Sealed{Text: r.PreviousSealed, Key: r.PreviousWrapped},
		PreviousUntil: timeOf(r.PreviousUntil)}
}

type deliveryRow struct {
	OwnerID     uuid.UUID `gorm:"primaryKey"`
	AlertID     uuid.UUID `gorm:"primaryKey"`
	EndpointID  uuid.UUID `gorm:"primaryKey"`
	CreatedAt   time.Time
	DueAt       time.Time
	Attempts    int
	LastError   string
	DeliveredAt *time.Time
	DeadAt      *time.Time
}

func (deliveryRow) TableName() string { return "webhook_deliveries" }

func noEndpoint(id uuid.UUID) error {
	return errs.NotFound("webhook endpoint " + id.String()).ListedBy("AlertService.ListWebhookEndpoints")
}

// CreateEndpoint implements webhook.Store.
func (s *Alerts) CreateEndpoint(ctx context.Context, e webhook.Endpoint, limit int, r *requests.Request) (made bool,
	_ webhook.Endpoint, err error) {
	// What is stored as the answer has no secret.
	answer := webhook.Endpoint{ID: e.ID, Owner: e.Owner, URL: e.URL, CreatedAt: e.CreatedAt}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		made = false
		return answers.Once(tx, e.Owner, r, &answer, func() error {
			if err := erasure.Guard(tx, e.Owner); err != nil {
				return err
			}
			n, err := lockedCount(tx, "webhook_endpoints", e.Owner)
			if err != nil {
				return err
			}
			if n >= int64(limit) {
				return errs.Exhausted("TOO_MANY_WEBHOOK_ENDPOINTS", fmt.Sprintf("you have %d webhook endpoints, and "+
					"may have %d; delete one before you add another", n, limit)).With("limit", strconv.Itoa(limit))
			}
			row := endpointRow{OwnerID: e.Owner, ID: e.ID, URL: e.URL, Sealed: e.Secret.Text, Wrapped: e.Secret.Key,
				CreatedAt: e.CreatedAt}
			if err := tx.Create(&row).Error; err != nil {
				return fmt.Errorf("create endpoint: %w", err)
			}
			made = true
			return nil
		})
	})
	return made, answer, err
}

// Endpoint implements webhook.Store.
func (s *Alerts) Endpoint(ctx context.Context, owner, id uuid.UUID) (webhook.Endpoint, error) {
	return readEndpoint(s.db.Gorm(ctx), owner, id)
}

func readEndpoint(tx *gorm.DB, owner, id uuid.UUID) (webhook.Endpoint, error) {
	var row endpointRow
	err := tx.Where("owner_id = ? AND id = ?", owner, id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return webhook.Endpoint{}, noEndpoint(id)
	}
	if err != nil {
		return webhook.Endpoint{}, fmt.Errorf("read endpoint: %w", err)
	}
	return row.endpoint(), nil
}

// Endpoints implements webhook.Store.
func (s *Alerts) Endpoints(ctx context.Context, owner uuid.UUID) ([]webhook.Endpoint, error) {
	var rows []endpointRow
	if err := s.db.Gorm(ctx).Where("owner_id = ?", owner).Order("id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	out := make([]webhook.Endpoint, len(rows))
	for i, r := range rows {
		out[i] = r.endpoint()
	}
	return out, nil
}

// Rotate implements webhook.Store.
func (s *Alerts) Rotate(ctx context.Context, owner, id uuid.UUID, secret webhook.Sealed,
	until time.Time) (e webhook.Endpoint, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if e, err = readEndpoint(tx.Clauses(clause.Locking{Strength: "NO KEY UPDATE"}), owner, id); err != nil {
			return err
		}
		e.Secret, e.Previous, e.PreviousUntil = secret, e.Secret, until
		err := tx.Exec(`UPDATE webhook_endpoints SET previous_sealed = sealed, previous_wrapped = wrapped,
				previous_until = ?, sealed = ?, wrapped = ?
			WHERE owner_id = ? AND id = ?`, until.UTC(), secret.Text, secret.Key, owner, id).Error
		if err != nil {
			return fmt.Errorf("rotate the secret of an endpoint: %w", err)
		}
		return nil
	})
	return e, err
}

// DeleteEndpoint implements webhook.Store.
func (s *Alerts) DeleteEndpoint(ctx context.Context, owner, id uuid.UUID) error {
	done := s.db.Gorm(ctx).Exec("DELETE FROM webhook_endpoints WHERE owner_id = ? AND id = ?", owner, id)
	if done.Error != nil {
		return fmt.Errorf("delete endpoint: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return noEndpoint(id)
	}
	return nil
}

// claimedRow is a delivery that is claimed, with all that it needs.
type claimedRow struct {
	Endpoint  endpointRow `gorm:"embedded;embeddedPrefix:e_"`
	Alert     alertRow    `gorm:"embedded;embeddedPrefix:a_"`
	Attempts  int
	CreatedAt time.Time
}

// maxDue is how many due deliveries a claim chooses from.
const maxDue = 2000

// ClaimDeliveries implements webhook.Outbox.
func (s *Alerts) ClaimDeliveries(ctx context.Context, now, until time.Time, n int, busy []uuid.UUID) (
	[]webhook.Claimed, error) {
	var rows []claimedRow
	// Of each endpoint the one that was tried least, then the oldest: one that is refused again and again holds up no
	// other. Of two replicas that choose the same, the second finds due_at moved on, and doesn't get it.
	err := s.db.Gorm(ctx).Raw(`WITH due AS (
			SELECT owner_id, alert_id, endpoint_id, attempts, due_at FROM webhook_deliveries
			WHERE delivered_at IS NULL AND dead_at IS NULL AND due_at <= @now AND endpoint_id NOT IN @busy
			ORDER BY due_at LIMIT @most),
		chosen AS (
			SELECT DISTINCT ON (owner_id, endpoint_id) owner_id, alert_id, endpoint_id, due_at FROM due
			ORDER BY owner_id, endpoint_id, attempts, due_at, alert_id),
		first AS (SELECT owner_id, alert_id, endpoint_id FROM chosen ORDER BY due_at LIMIT @n),
		claimed AS (
			UPDATE webhook_deliveries d SET attempts = d.attempts + 1, due_at = @until FROM first f
			WHERE d.owner_id = f.owner_id AND d.alert_id = f.alert_id AND d.endpoint_id = f.endpoint_id
			  AND d.due_at <= @now AND d.delivered_at IS NULL AND d.dead_at IS NULL
			RETURNING d.*)
		SELECT c.attempts, c.created_at, e.owner_id AS e_owner_id, e.id AS e_id, e.url AS e_url,
			e.sealed AS e_sealed, e.wrapped AS e_wrapped, e.previous_sealed AS e_previous_sealed,
			e.previous_wrapped AS e_previous_wrapped, e.previous_until AS e_previous_until, a.owner_id AS a_owner_id,
			a.id AS a_id, a.rule_id AS a_rule_id, a.rule_name AS a_rule_name, a.portfolio_id AS a_portfolio_id,
			a.kind AS a_kind, a.token_id AS a_token_id, a.limit_value AS a_limit_value,
			a.window_seconds AS a_window_seconds, a.figure AS a_figure, a.fired_at AS a_fired_at
		FROM claimed c JOIN alerts a ON a.owner_id = c.owner_id AND a.id = c.alert_id
		JOIN webhook_endpoints e ON e.owner_id = c.owner_id AND e.id = c.endpoint_id`,
		map[string]any{"now": now.UTC(), "until": until.UTC(), "n": n, "most": maxDue,
			"busy": append(busy, uuid.Nil)}).
		Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("claim webhooks: %w", err)
	}
	out := make([]webhook.Claimed, len(rows))
	for i, r := range rows {
		a, err := r.Alert.alert()
		if err != nil {
			return nil, err
		}
		out[i] = webhook.Claimed{Endpoint: r.Endpoint.endpoint(), Alert: a, Attempt: r.Attempts,
			QueuedAt: r.CreatedAt.UTC()}
	}
	return out, nil
}

// open is the condition of a delivery that has no final result yet.
const open = " WHERE owner_id = @owner AND alert_id = @alert AND endpoint_id = @endpoint AND delivered_at IS NULL " +
	"AND dead_at IS NULL"

func deliveryArgs(c webhook.Claimed, more map[string]any) map[string]any {
	more["owner"], more["alert"], more["endpoint"] = c.Endpoint.Owner, c.Alert.ID, c.Endpoint.ID
	return more
}

// Delivered implements webhook.Outbox.
func (s *Alerts) Delivered(ctx context.Context, c webhook.Claimed, at time.Time) error {
	err := s.db.Gorm(ctx).Exec("UPDATE webhook_deliveries SET delivered_at = @at, last_error = ''"+open,
		deliveryArgs(c, map[string]any{"at": at.UTC()})).Error
	if err != nil {
		return fmt.Errorf("record a delivery: %w", err)
	}
	return nil
}

// Retry implements webhook.Outbox.
func (s *Alerts) Retry(ctx context.Context, c webhook.Claimed, reason string, due, cooldown time.Time) error {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		err := tx.Exec("UPDATE webhook_deliveries SET due_at = @due, last_error = @reason"+open,
			deliveryArgs(c, map[string]any{"due": due.UTC(), "reason": reason})).Error
		if err != nil {
			return err
		}
		return tx.Exec(`UPDATE webhook_deliveries SET due_at = @cooldown WHERE owner_id = @owner
			AND endpoint_id = @endpoint AND alert_id <> @alert AND delivered_at IS NULL AND dead_at IS NULL
			AND due_at < @cooldown`, deliveryArgs(c, map[string]any{"cooldown": cooldown.UTC()})).Error
	})
	if err != nil {
		return fmt.Errorf("record a failed delivery: %w", err)
	}
	return nil
}

// GiveUp implements webhook.Outbox. It is a change of the alert, which readers of the feed are told of.
func (s *Alerts) GiveUp(ctx context.Context, c webhook.Claimed, reason string, at time.Time) error {
	gaveUp := false
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		done := tx.Exec("UPDATE webhook_deliveries SET dead_at = @at, last_error = @reason"+open,
			deliveryArgs(c, map[string]any{"at": at.UTC(), "reason": reason}))
		if gaveUp = done.RowsAffected > 0; done.Error != nil || !gaveUp {
			return done.Error
		}
		return feed.Append(tx, feed.Change{Owner: c.Endpoint.Owner, Kind: AlertChanged, Subject: c.Alert.ID})
	})
	if err != nil {
		return fmt.Errorf("give a delivery up: %w", err)
	}
	if gaveUp {
		s.wake()
	}
	return nil
}

var _ alert.EvaluationStore = (*Alerts)(nil)
