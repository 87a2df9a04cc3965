package alert

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Store stores rules and alerts. Every method takes the owner: what is another owner's is errs.NotFound. A method with
// a request returns what the earlier call with that request returned; r may be nil.
type Store interface {
	// CreateRule stores a rule. The owner then has at most limit: errs.Exhausted (TOO_MANY_ALERT_RULES).
	CreateRule(ctx context.Context, rule Rule, limit int, r *requests.Request) (Rule, error)
	Rule(ctx context.Context, owner, id uuid.UUID) (Rule, error)
	// Rules returns up to limit rules with ids after this one.
	Rules(ctx context.Context, owner, after uuid.UUID, limit int) ([]Rule, error)
	// UpdateRule stores what change has made of a rule that has this etag, or any if it is "": errs.Conflict
	// (ETAG_MISMATCH). It changes the versions.
	UpdateRule(ctx context.Context, owner, id uuid.UUID, etag string, change func(*Rule) error,
		r *requests.Request) (Rule, error)
	// DeleteRule deletes a rule, as UpdateRule.
	DeleteRule(ctx context.Context, owner, id uuid.UUID, etag string, r *requests.Request) error
	// Alerts returns up to limit alerts before an id, newest first; the newest for uuid.Nil.
	Alerts(ctx context.Context, owner, before uuid.UUID, unacknowledged bool, limit int) ([]Alert, error)
	// AlertsByID returns those of the alerts that exist, in the order of their ids.
	AlertsByID(ctx context.Context, owner uuid.UUID, ids []uuid.UUID) ([]Alert, error)
	// Acknowledge acknowledges alerts, all or none: errs.NotFound. Those that were keep their time.
	Acknowledge(ctx context.Context, owner uuid.UUID, ids []uuid.UUID, at time.Time) error
}

// ETag changes with what the owner has set.
func (r *Rule) ETag() string { return strconv.FormatInt(r.Version, 36) }

// CheckEtag returns errs.Conflict (ETAG_MISMATCH) for an etag that is not that of r; "" is every rule's.
func (r *Rule) CheckEtag(etag string) error {
	if etag == "" || etag == r.ETag() {
		return nil
	}
	return requests.EtagMismatch("the rule", "GetAlertRule", etag, r.ETag())
}

// Portfolios finds portfolios; *portfolio.Service does.
type Portfolios interface {
	// Find returns errs.NotFound for a portfolio that doesn't exist or is another owner's; the default one, made if
	// there is none, for uuid.Nil.
	Find(ctx context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error)
}

// Service makes and changes rules, and acknowledges alerts. It is safe for concurrent use.
type Service struct {
	Store
	portfolios Portfolios
	limit      int
	configured bool
	now        func() time.Time
	dueNow     func()
}

// NewService returns the service. An owner has at most limit rules. Without configured none can be made, since nobody
// would evaluate it. dueNow is called after a rule was made or changed, which is due then.
func NewService(s Store, p Portfolios, limit int, configured bool, now func() time.Time, dueNow func()) *Service {
	return &Service{Store: s, portfolios: p, limit: limit, configured: configured, now: now, dueNow: dueNow}
}

// Creation is a rule to be made.
type Creation struct {
	Definition
	Kind               Kind
	Portfolio, Request uuid.UUID
}

// Create makes a rule: errs.Invalid, errs.NotFound for the portfolio, errs.Exhausted (TOO_MANY_ALERT_RULES),
// errs.FailedPrecondition (ALERTS_NOT_CONFIGURED).
func (s *Service) Create(ctx context.Context, owner uuid.UUID, c Creation) (Rule, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Rule{}, fmt.Errorf("new rule id: %w", err)
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	rule := Rule{ID: id, Owner: owner, Kind: c.Kind, CreatedAt: now, UpdatedAt: now, Version: 1}
	if err := rule.Define(c.Definition); err != nil {
		return Rule{}, err
	}
	if !s.configured {
		return Rule{}, errs.FailedPrecondition("ALERTS_NOT_CONFIGURED", "this deployment looks at no rules: its "+
			"portfolio service has no account of its own (PURSER_SERVICE_ID)")
	}
	p, err := s.portfolios.Find(ctx, owner, c.Portfolio)
	if err != nil {
		return Rule{}, err
	}
	rule.Portfolio = p.ID
	rule, err = s.CreateRule(ctx, rule, s.limit, requests.New(c.Request, "CreateAlertRule",
		append(c.fields(), string(c.Kind), p.ID.String())...))
	if err == nil {
		s.dueNow()
	}
	return rule, err
}

// fields tell definitions apart.
func (d Definition) fields() []string {
	return []string{d.Name, d.Limit, d.Token, d.Hysteresis, d.Window.String(), strconv.FormatBool(d.Disabled)}
}

// Fields are the names of what can be set of a rule.
func Fields() []string { return []string{"name", "limit", "window", "hysteresis", "disabled"} }

// Change is what is to be set of a rule: the named fields of the definition, all for none.
type Change struct {
	Definition
	Fields  []string
	ETag    string
	Request uuid.UUID
}

// CheckFields returns errs.Invalid on update_mask for a field that can't be set.
func CheckFields(fields []string) error {
	for _, f := range fields {
		if !slices.Contains(Fields(), f) {
			return errs.Invalid("update_mask", "must be empty or name some of "+strings.Join(Fields(), ", ")+", "+
				errs.Given(f))
		}
	}
	return nil
}

// Update changes a rule; one whose limit, window or hysteresis is set, or that is enabled, is armed again. Errors are
// those of Create and UpdateRule.
func (s *Service) Update(ctx context.Context, owner, id uuid.UUID, c Change) (Rule, error) {
	if err := CheckFields(c.Fields); err != nil {
		return Rule{}, err
	}
	sets := func(field string) bool { return len(c.Fields) == 0 || slices.Contains(c.Fields, field) }
	rule, err := s.UpdateRule(ctx, owner, id, c.ETag, func(r *Rule) error {
		d := r.Definition()
		for field, set := range map[string]func(){
			"name": func() { d.Name = c.Name }, "limit": func() { d.Limit = c.Limit },
			"window": func() { d.Window = c.Window }, "hysteresis": func() { d.Hysteresis = c.Hysteresis },
			"disabled": func() { d.Disabled = c.Disabled },
		} {
			if sets(field) {
				set()
			}
		}
		enabled := r.Disabled && !d.Disabled
		if err := r.Define(d); err != nil {
			return err
		}
		if enabled || sets("limit") || sets("window") || sets("hysteresis") {
			// FiredAt stays: a rule that is changed all the time fires no more often.
			r.State.Fired, r.State.Figure, r.State.Base = false, "", Base{}
		}
		r.UpdatedAt = s.now().UTC().Truncate(time.Microsecond)
		return nil
	}, requests.New(c.Request, "UpdateAlertRule",
		append(c.fields(), id.String(), c.ETag, strings.Join(c.Fields, ","))...))
	if err == nil {
		s.dueNow()
	}
	return rule, err
}

// Delete removes a rule; errors as DeleteRule.
func (s *Service) Delete(ctx context.Context, owner, id uuid.UUID, etag string, request uuid.UUID) error {
	return s.DeleteRule(ctx, owner, id, etag, requests.New(request, "DeleteAlertRule", id.String(), etag))
}

// AcknowledgeAll acknowledges alerts and returns them, each once, in the order that they are given in; errors as
// Acknowledge.
func (s *Service) AcknowledgeAll(ctx context.Context, owner uuid.UUID, ids []uuid.UUID) ([]Alert, error) {
	if err := s.Acknowledge(ctx, owner, ids, s.now().UTC().Truncate(time.Microsecond)); err != nil {
		return nil, err
	}
	alerts, err := s.AlertsByID(ctx, owner, ids)
	slices.SortFunc(alerts, func(a, b Alert) int { return slices.Index(ids, a.ID) - slices.Index(ids, b.ID) })
	return alerts, err
}
