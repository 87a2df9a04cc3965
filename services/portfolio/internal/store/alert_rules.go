package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
)

type ruleRow struct {
	OwnerID       uuid.UUID `gorm:"primaryKey"`
	ID            uuid.UUID `gorm:"primaryKey"`
	PortfolioID   uuid.UUID
	Name          string
	Kind          string
	LimitValue    *string
	TokenID       string
	WindowSeconds int64
	Hysteresis    string
	Disabled      bool
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Version       int64
	Fired         bool
	Figure        string
	FiredAt       *time.Time
	Base          string
	StateVersion  int64
}

func (ruleRow) TableName() string { return "alert_rules" }

func rowFromRule(r alert.Rule) (ruleRow, error) {
	base, err := baseText(r.State.Base)
	return ruleRow{OwnerID: r.Owner, ID: r.ID, PortfolioID: r.Portfolio, Name: r.Name, Kind: string(r.Kind),
		LimitValue: decimalText(r.Limit), TokenID: r.Token, WindowSeconds: int64(r.Window / time.Second),
		Hysteresis: r.Hysteresis.Text('f'), Disabled: r.Disabled, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Version: r.Version, Fired: r.State.Fired, Figure: r.State.Figure, FiredAt: timeOrNil(r.State.FiredAt),
		Base: base, StateVersion: r.State.Version}, err
}

func (r ruleRow) rule() (alert.Rule, error) {
	out := alert.Rule{ID: r.ID, Owner: r.OwnerID, Portfolio: r.PortfolioID, Name: r.Name, Kind: alert.Kind(r.Kind),
		Token: r.TokenID, Window: time.Duration(r.WindowSeconds) * time.Second, Disabled: r.Disabled,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), Version: r.Version,
		State: alert.State{Fired: r.Fired, Figure: r.Figure, FiredAt: timeOf(r.FiredAt), Version: r.StateVersion}}
	var err error
	if r.LimitValue != nil {
		if out.Limit, err = parseDecimal(*r.LimitValue); err != nil {
			return out, err
		}
	}
	if out.Hysteresis, err = parseDecimal(r.Hysteresis); err != nil {
		return out, err
	}
	if r.Base != "" {
		if err := json.Unmarshal([]byte(r.Base), &out.State.Base); err != nil {
			return out, fmt.Errorf("read the base of a rule: %w", err)
		}
	}
	return out, nil
}

func rulesFromRows(rows []ruleRow) ([]alert.Rule, error) {
	rules := make([]alert.Rule, len(rows))
	for i, r := range rows {
		var err error
		if rules[i], err = r.rule(); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// baseText is "" for no base.
func baseText(b alert.Base) (string, error) {
	if b == (alert.Base{}) {
		return "", nil
	}
	text, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("write the base of a rule: %w", err)
	}
	return string(text), nil
}

func decimalText(d *apd.Decimal) *string {
	if d == nil {
		return nil
	}
	text := d.Text('f')
	return &text
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// Alerts implements alert.Store, alert.EvaluationStore and webhook.Store. It is safe for concurrent use.
type Alerts struct {
	db *postgres.DB
	// wake is called after the commit of a change of the feed.
	wake func()
}

// NewAlerts returns the rules, alerts and webhooks in db. wake is called after the commit of a change of the feed.
func NewAlerts(db *postgres.DB, wake func()) *Alerts { return &Alerts{db: db, wake: wake} }

func noRule(id uuid.UUID) error {
	return errs.NotFound("alert rule " + id.String()).ListedBy("AlertService.ListAlertRules")
}

// CreateRule implements alert.Store.
func (s *Alerts) CreateRule(ctx context.Context, rule alert.Rule, limit int, r *requests.Request) (alert.Rule, error) {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return answers.Once(tx, rule.Owner, r, &rule, func() error {
			if err := erasure.Guard(tx, rule.Owner); err != nil {
				return err
			}
			n, err := lockedCount(tx, "alert_rules", rule.Owner)
			if err != nil {
				return err
			}
			if n >= int64(limit) {
				return errs.Exhausted("TOO_MANY_ALERT_RULES", fmt.Sprintf("you have %d alert rules, and this "+
					"deployment allows %d (PURSER_ALERTS_RULES_PER_OWNER); delete one before you add another", n,
					limit)).With("limit", strconv.Itoa(limit))
			}
			row, err := rowFromRule(rule)
			if err != nil {
				return err
			}
			if err := tx.Create(&row).Error; err != nil {
				return fmt.Errorf("create rule: %w", err)
			}
			return dueNow(tx, rule.Owner)
		})
	})
	return rule, err
}

// dueNow marks an owner who has a rule as due.
func dueNow(tx *gorm.DB, owner uuid.UUID) error {
	err := tx.Exec(`INSERT INTO alert_owners (owner_id, due_at) VALUES (?, '-infinity')
		ON CONFLICT (owner_id) DO UPDATE SET due_at = excluded.due_at`, owner).Error
	if err != nil {
		return fmt.Errorf("have rules looked at: %w", err)
	}
	return nil
}

// Rule implements alert.Store.
func (s *Alerts) Rule(ctx context.Context, owner, id uuid.UUID) (alert.Rule, error) {
	return readRule(s.db.Gorm(ctx), owner, id)
}

func readRule(tx *gorm.DB, owner, id uuid.UUID) (alert.Rule, error) {
	var row ruleRow
	err := tx.Where("owner_id = ? AND id = ?", owner, id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return alert.Rule{}, noRule(id)
	}
	if err != nil {
		return alert.Rule{}, fmt.Errorf("read rule: %w", err)
	}
	return row.rule()
}

// Rules implements alert.Store.
func (s *Alerts) Rules(ctx context.Context, owner, after uuid.UUID, limit int) ([]alert.Rule, error) {
	var rows []ruleRow
	err := s.db.Gorm(ctx).Where("owner_id = ? AND id > ?", owner, after).Order("id").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return rulesFromRows(rows)
}

// lockedRule returns a rule that has this etag, if one is given, and locks it.
func lockedRule(tx *gorm.DB, owner, id uuid.UUID, etag string) (alert.Rule, error) {
	rule, err := readRule(tx.Clauses(clause.Locking{Strength: "UPDATE"}), owner, id)
	if err != nil {
		return rule, err
	}
	return rule, rule.CheckEtag(etag)
}

// UpdateRule implements alert.Store.
func (s *Alerts) UpdateRule(ctx context.Context, owner, id uuid.UUID, etag string, change func(*alert.Rule) error,
	r *requests.Request) (rule alert.Rule, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return answers.Once(tx, owner, r, &rule, func() error {
			if rule, err = lockedRule(tx, owner, id, etag); err != nil {
				return err
			}
			if err := change(&rule); err != nil {
				return err
			}
			rule.Version++
			rule.State.Version++ // an evaluation of it as it was stores nothing
			row, err := rowFromRule(rule)
			if err != nil {
				return err
			}
			if err := tx.Select("*").Where("owner_id = ? AND id = ?", owner, id).Updates(&row).Error; err != nil {
				return fmt.Errorf("update rule: %w", err)
			}
			return dueNow(tx, owner)
		})
	})
	return rule, err
}

// DeleteRule implements alert.Store.
func (s *Alerts) DeleteRule(ctx context.Context, owner, id uuid.UUID, etag string, r *requests.Request) error {
	var none struct{}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return answers.Once(tx, owner, r, &none, func() error {
			if _, err := lockedRule(tx, owner, id, etag); err != nil {
				return err
			}
			if err := tx.Exec("DELETE FROM alert_rules WHERE owner_id = ? AND id = ?", owner, id).Error; err != nil {
				return fmt.Errorf("delete rule: %w", err)
			}
			return nil
		})
	})
}
