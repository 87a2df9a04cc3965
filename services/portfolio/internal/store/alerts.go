package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
)

// Kinds of changes in the feed.
const (
	// AlertFired and AlertChanged are of an alert, by its id.
	AlertFired   = "ALERT_FIRED"
	AlertChanged = "ALERT_CHANGED"
	// OwnerErased is of an owner of whom nothing is left.
	OwnerErased = "OWNER_ERASED"
)

type alertRow struct {
	OwnerID        uuid.UUID `gorm:"primaryKey"`
	ID             uuid.UUID `gorm:"primaryKey"`
	RuleID         uuid.UUID
	RuleName       string
	PortfolioID    uuid.UUID
	Kind           string
	TokenID        string
	LimitValue     *string
	WindowSeconds  int64
	Figure         string
	FiredAt        time.Time
	AcknowledgedAt *time.Time
}

func (alertRow) TableName() string { return "alerts" }

func rowFromAlert(a alert.Alert) alertRow {
	return alertRow{OwnerID: a.Owner, ID: a.ID, RuleID: a.Rule, RuleName: a.RuleName, PortfolioID: a.Portfolio,
		Kind: string(a.Kind), TokenID: a.Token, LimitValue: decimalText(a.Limit),
		WindowSeconds: int64(a.Window / time.Second), Figure: a.Figure, FiredAt: a.FiredAt.UTC(),
		AcknowledgedAt: timeOrNil(a.AcknowledgedAt)}
}

func (r alertRow) alert() (a alert.Alert, err error) {
	a = alert.Alert{ID: r.ID, Owner: r.OwnerID, Rule: r.RuleID, RuleName: r.RuleName, Portfolio: r.PortfolioID,
		Kind: alert.Kind(r.Kind), Token: r.TokenID, Window: time.Duration(r.WindowSeconds) * time.Second,
		Figure: r.Figure, FiredAt: r.FiredAt.UTC(), AcknowledgedAt: timeOf(r.AcknowledgedAt)}
	if r.LimitValue != nil {
		a.Limit, err = parseDecimal(*r.LimitValue)
	}
	return a, err
}

// Store implements alert.EvaluationStore. The rules are locked in the order of their ids, so that two evaluations
// don't deadlock.
func (s *Alerts) Store(ctx context.Context, owner uuid.UUID, outcomes []alert.Outcome) (stored []alert.Alert,
	err error) {
	outcomes = slices.Clone(outcomes)
	slices.SortFunc(outcomes, func(a, b alert.Outcome) int { return slices.Compare(a.Rule.ID[:], b.Rule.ID[:]) })
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		stored = nil
		for _, o := range outcomes {
			base, err := baseText(o.State.Base)
			if err != nil {
				return err
			}
			done := tx.Exec(`UPDATE alert_rules SET fired = ?, figure = ?, fired_at = ?, base = ?,
					state_version = state_version + 1
				WHERE owner_id = ? AND id = ? AND state_version = ?`, o.State.Fired, o.State.Figure,
				timeOrNil(o.State.FiredAt), base, owner, o.Rule.ID, o.Rule.State.Version)
			if done.Error != nil {
				return fmt.Errorf("change the state of a rule: %w", done.Error)
			}
			if done.RowsAffected == 0 || !o.Fires {
				continue // the rule was changed, deleted, or another evaluation was first
			}
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("new alert id: %w", err)
			}
			stored = append(stored, o.Alert(id))
		}
		return insertAlerts(tx, owner, stored)
	})
	if err == nil && len(stored) > 0 {
		s.wake()
	}
	return stored, err
}

// insertAlerts stores alerts of an owner whose rules are locked, with a delivery to each endpoint and a change of the
// feed.
func insertAlerts(tx *gorm.DB, owner uuid.UUID, alerts []alert.Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	rows, changes := make([]alertRow, len(alerts)), make([]feed.Change, len(alerts))
	ids := make([]uuid.UUID, len(alerts))
	for i, a := range alerts {
		rows[i], ids[i] = rowFromAlert(a), a.ID
		changes[i] = feed.Change{Owner: owner, Kind: AlertFired, Subject: a.ID}
	}
	if err := tx.Create(&rows).Error; err != nil {
		return fmt.Errorf("store alerts: %w", err)
	}
	// An endpoint that is deleted at the same time takes its deliveries along, or is not seen.
	err := tx.Exec(`INSERT INTO webhook_deliveries (owner_id, alert_id, endpoint_id, created_at, due_at)
		SELECT a.owner_id, a.id, e.id, a.fired_at, a.fired_at
		FROM alerts a JOIN (SELECT owner_id, id FROM webhook_endpoints WHERE owner_id = ? FOR KEY SHARE) e
		  ON e.owner_id = a.owner_id
		WHERE a.owner_id = ? AND a.id IN ?`, owner, owner, ids).Error
	if err != nil {
		return fmt.Errorf("queue webhooks: %w", err)
	}
	return feed.Append(tx, changes...)
}

// Alerts implements alert.Store.
func (s *Alerts) Alerts(ctx context.Context, owner, before uuid.UUID, unacknowledged bool, limit int) ([]alert.Alert,
	error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	query := s.db.Gorm(ctx).Where("owner_id = ? AND id < ?", owner, before)
	if unacknowledged {
		query = query.Where("acknowledged_at IS NULL")
	}
	var rows []alertRow
	if err := query.Order("id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return withDeliveries(s.db.Gorm(ctx), owner, rows)
}

// AlertsByID implements alert.Store.
func (s *Alerts) AlertsByID(ctx context.Context, owner uuid.UUID, ids []uuid.UUID) ([]alert.Alert, error) {
	var rows []alertRow
	err := s.db.Gorm(ctx).Where("owner_id = ? AND id IN ?", owner, ids).Order("id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return withDeliveries(s.db.Gorm(ctx), owner, rows)
}

// withDeliveries returns the alerts of rows with their deliveries.
func withDeliveries(db *gorm.DB, owner uuid.UUID, rows []alertRow) ([]alert.Alert, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids, at := make([]uuid.UUID, len(rows)), make(map[uuid.UUID]int, len(rows))
	alerts := make([]alert.Alert, len(rows))
	for i, r := range rows {
		var err error
		if alerts[i], err = r.alert(); err != nil {
			return nil, err
		}
		ids[i], at[r.ID] = r.ID, i
	}
	var deliveries []deliveryRow
	err := db.Where("owner_id = ? AND alert_id IN ?", owner, ids).Order("alert_id, endpoint_id").
		Find(&deliveries).Error
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	for _, d := range deliveries {
		i := at[d.AlertID]
		alerts[i].Deliveries = append(alerts[i].Deliveries, alert.Delivery{Endpoint: d.EndpointID,
			Attempts: d.Attempts, LastError: d.LastError, Delivered: d.DeliveredAt != nil, Dead: d.DeadAt != nil,
			Due: d.DueAt.UTC()})
	}
	return alerts, nil
}

// Acknowledge implements alert.Store.
func (s *Alerts) Acknowledge(ctx context.Context, owner uuid.UUID, ids []uuid.UUID, at time.Time) error {
	acknowledged := false
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		acknowledged = false
		var rows []alertRow
		err := tx.Raw("SELECT id, acknowledged_at FROM alerts WHERE owner_id = ? AND id IN ? ORDER BY id FOR UPDATE",
			owner, ids).Scan(&rows).Error
		if err != nil {
			return fmt.Errorf("lock alerts: %w", err)
		}
		found, fresh, changes := map[uuid.UUID]bool{}, []uuid.UUID{}, []feed.Change{}
		for _, r := range rows {
			if found[r.ID] = true; r.AcknowledgedAt == nil {
				fresh = append(fresh, r.ID)
				changes = append(changes, feed.Change{Owner: owner, Kind: AlertChanged, Subject: r.ID})
			}
		}
		for _, id := range ids {
			if !found[id] {
				return errs.NotFound("alert " + id.String()).ListedBy("AlertService.ListAlerts")
			}
		}
		if acknowledged = len(fresh) > 0; !acknowledged {
			return nil
		}
		err = tx.Exec("UPDATE alerts SET acknowledged_at = ? WHERE owner_id = ? AND id IN ?", at, owner, fresh).Error
		if err != nil {
			return fmt.Errorf("acknowledge alerts: %w", err)
		}
		return feed.Append(tx, changes...)
	})
	if err == nil && acknowledged {
		s.wake()
	}
	return err
}

// maxPruned is how many old alerts one transaction deletes.
const maxPruned = 1000

// Prune deletes the alerts that fired before a time, with their deliveries.
func (s *Alerts) Prune(ctx context.Context, before time.Time) error {
	for {
		done := s.db.Gorm(ctx).Exec(`DELETE FROM alerts WHERE (owner_id, id) IN (
			SELECT owner_id, id FROM alerts WHERE fired_at < ? ORDER BY fired_at LIMIT ?)`, before.UTC(), maxPruned)
		if done.Error != nil {
			return fmt.Errorf("prune alerts: %w", done.Error)
		}
		if done.RowsAffected < maxPruned {
			return nil
		}
	}
}
