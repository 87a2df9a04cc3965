package alert

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/internal/work"
)

const (
	// slots is how many owners a replica evaluates at once.
	slots = 16
	// poll is how often a replica looks for owners that another one was told of.
	poll = time.Second
	// evaluationTimeout bounds an evaluation of the rules of an owner; lease is how long no other replica evaluates
	// them, unless something changes.
	evaluationTimeout, lease = 30 * time.Second, time.Minute
	// storeGrace is how long what was seen may be stored after the time of an evaluation, or that of the service, has
	// ended.
	storeGrace = 5 * time.Second
	// warnInterval is the least time between two logs of failed evaluations, in seconds.
	warnInterval = 60
)

// DueOwner is an owner whose rules are due.
type DueOwner struct {
	Owner uuid.UUID
	Until time.Time // when another may evaluate
}

// Outcome is what an evaluation makes of a rule.
type Outcome struct {
	Rule  Rule  // with the state that was read
	State State // the next one
	Fires bool
}

// EvaluationStore is the part of the store that evaluations use. It is safe for concurrent use.
type EvaluationStore interface {
	// Due marks owners as due; those without rules are left out.
	Due(ctx context.Context, owners []uuid.UUID, at time.Time) error
	// AllDue marks all owners with rules as due.
	AllDue(ctx context.Context, at time.Time) error
	// Claim returns up to n owners who are due, none of these, and makes them due again at until.
	Claim(ctx context.Context, now, until time.Time, n int, without []uuid.UUID) ([]DueOwner, error)
	// Finish makes an owner due at next, unless something has made them due meanwhile. Without rules they are never.
	Finish(ctx context.Context, due DueOwner, next time.Time) error
	// Enabled returns the rules of an owner that aren't disabled.
	Enabled(ctx context.Context, owner uuid.UUID) ([]Rule, error)
	// Store changes the states of rules whose state is that which was read, and stores alerts for those of them that
	// fire, each with its deliveries, in one transaction. It returns the alerts; rules that have changed since are
	// left out.
	Store(ctx context.Context, owner uuid.UUID, outcomes []Outcome) ([]Alert, error)
	// Drop deletes the rules of a portfolio that doesn't exist.
	Drop(ctx context.Context, owner, portfolio uuid.UUID) error
	// TotalAt returns the total of the last measurable snapshot at or before a time; nil if there is none in the day
	// before it.
	TotalAt(ctx context.Context, portfolio uuid.UUID, at time.Time) (*apd.Decimal, error)
	// HighestTotal returns the highest total of the snapshots; nil if there is none.
	HighestTotal(ctx context.Context, portfolio uuid.UUID) (*apd.Decimal, error)
}

// Values finds and values portfolios; *portfolio.Service does.
type Values interface {
	Portfolios
	// Value returns errs.Unavailable while it isn't known.
	Value(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error)
}

// Loans reads what portfolios have in protocols; *defi.Service does.
type Loans interface {
	Read(ctx context.Context, p portfolio.Portfolio, currency string) (defi.State, error)
}

// Prices reads present prices of tokens; *holdings.Prices does.
type Prices interface {
	Now(ctx context.Context, ids []string) (map[string]valuation.Price, error)
}

// Sources are what figures are read from, as this service itself.
type Sources struct {
	Values Values
	Loans  Loans
	Prices Prices
	// AsSelf returns a context for calls with a token of the service's own account.
	AsSelf func(ctx context.Context) (context.Context, error)
}

// Evaluator evaluates rules. It is safe for concurrent use.
type Evaluator struct {
	store    EvaluationStore
	from     Sources
	interval time.Duration
	log      *slog.Logger
	now      func() time.Time
	stored   func()
	loop     *work.Loop
	fired    metric.Int64Counter
	failed   metric.Int64Counter
	warned   atomic.Int64 // when it was last logged that rules could not be evaluated, in Unix seconds

	mu         sync.Mutex
	evaluating map[uuid.UUID]bool // owners whose rules are being evaluated
}

// NewEvaluator returns what evaluates the rules of each owner once per interval, and when something of theirs changed.
// stored is called after alerts were stored.
func NewEvaluator(s EvaluationStore, from Sources, interval time.Duration, log *slog.Logger, now func() time.Time,
	stored func()) *Evaluator {
	e := &Evaluator{store: s, from: from, interval: interval, log: log, now: now, stored: stored,
		evaluating: map[uuid.UUID]bool{}}
	e.loop = work.New("alert rules", slots, poll, log, e.claim)
	// An instrument that can't be made is a no-op one.
	meter := otel.Meter("purser/portfolio/alert")
	e.fired, _ = meter.Int64Counter("alerts_fired_total",
		metric.WithDescription("Alerts that this replica has stored."))
	e.failed, _ = meter.Int64Counter("alert_looks_failed_total",
		metric.WithDescription("Looks at the rules of an owner for which something could not be read or stored."))
	e.failed.Add(context.Background(), 0)
	for _, k := range []Kind{HealthBelow, DrawdownAbove, ValueChange, PriceAbove, PriceBelow, WalletAge, PriceAge,
		Transfer} {
		e.fired.Add(context.Background(), 0, ofKind(k)) // so that the first one is an increase
	}
	return e
}

func ofKind(k Kind) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("kind", string(k)))
}

// Run evaluates what is due until ctx ends.
func (e *Evaluator) Run(ctx context.Context) error { return e.loop.Run(ctx) }

// Wake starts the next poll without waiting for its time.
func (e *Evaluator) Wake() { e.loop.Wake() }

// MarkDue marks the rules of these owners as due. If that can't be stored, it logs the error and they are evaluated at
// their regular time.
func (e *Evaluator) MarkDue(ctx context.Context, owners []uuid.UUID) {
	if err := e.store.Due(ctx, owners, e.now()); err != nil {
		e.log.WarnContext(ctx, "the alert rules of owners of whom something changed wait for their turn", "error", err)
		return
	}
	e.Wake()
}

// MarkAllDue marks the rules of all owners as due: changes may have been missed.
func (e *Evaluator) MarkAllDue() {
	ctx, cancel := context.WithTimeout(context.Background(), evaluationTimeout)
	defer cancel()
	if err := e.store.AllDue(ctx, e.now()); err != nil {
		e.log.WarnContext(ctx, "alert rules wait for their turn", "error", err)
		return
	}
	e.Wake()
}

func (e *Evaluator) claim(ctx context.Context, n int) (pieces []func(context.Context), err error) {
	now := e.now()
	e.mu.Lock()
	evaluating := slices.Collect(maps.Keys(e.evaluating))
	e.mu.Unlock()
	// An owner who is due again stays so until the evaluation of their rules is over: whose evaluation is slow, or who
	// changes rules all the time, takes one slot.
	owners, err := e.store.Claim(ctx, now, now.Add(lease), n, evaluating)
	for _, due := range owners {
		e.setEvaluating(due.Owner, true)
		pieces = append(pieces, func(ctx context.Context) {
			defer e.setEvaluating(due.Owner, false)
			e.evaluateDue(ctx, due)
		})
	}
	return pieces, err
}

func (e *Evaluator) setEvaluating(owner uuid.UUID, evaluating bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if evaluating {
		e.evaluating[owner] = true
	} else {
		delete(e.evaluating, owner)
	}
}

// evaluateDue evaluates the rules of an owner. After an error they are due at their regular time, as always: another
// evaluation at once would call what can't answer.
func (e *Evaluator) evaluateDue(ctx context.Context, due DueOwner) {
	limited, cancel := context.WithTimeout(ctx, evaluationTimeout)
	defer cancel()
	err := e.Evaluate(limited, due.Owner)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		e.failed.Add(ctx, 1)
		// During an outage this is so of every owner, in each of their turns.
		last, at := e.warned.Load(), e.now().Unix()
		if at-last >= warnInterval && e.warned.CompareAndSwap(last, at) {
			e.log.WarnContext(ctx, "alert rules can't be looked at", "owner", due.Owner, "error", err)
		}
	}
	if err := e.store.Finish(ctx, due, e.now().Add(e.interval)); err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "the next look at alert rules is late", "owner", due.Owner, "error", err)
	}
}

// Evaluate evaluates the rules of an owner, and stores what follows. What could not be read is an error; rules that
// need none of it are evaluated all the same.
func (e *Evaluator) Evaluate(ctx context.Context, owner uuid.UUID) error {
	rules, err := e.store.Enabled(ctx, owner)
	if err != nil || len(rules) == 0 {
		return err
	}
	ctx, err = e.from.AsSelf(ctx)
	if err != nil {
		return err
	}
	run := newEvaluation(e, owner, rules)
	var outcomes []Outcome
	for _, r := range rules {
		seen, ok := run.observe(ctx, r)
		if !ok {
			continue
		}
		if next, changed, fires := r.Step(seen, run.at); changed {
			outcomes = append(outcomes, Outcome{Rule: r, State: next, Fires: fires})
		}
	}
	if len(outcomes) > 0 {
		// What was seen is stored, also when the rest took all the time.
		ctx, done := deadline.Grace(ctx, storeGrace)
		defer done()
		alerts, err := e.store.Store(ctx, owner, outcomes)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			e.fired.Add(ctx, 1, ofKind(a.Kind))
		}
		if len(alerts) > 0 {
			e.stored()
		}
	}
	return run.err
}

// Alert returns the alert of an outcome that fires, with this id.
func (o Outcome) Alert(id uuid.UUID) Alert {
	a := o.Rule.alert(o.State)
	a.ID = id
	return a
}

// gone reports whether a portfolio doesn't exist.
func gone(err error) bool { return errs.Is(err, errs.KindNotFound) }
