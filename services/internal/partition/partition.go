// Package partition keeps the monthly partitions of a service's history: it makes those of
// the coming months ahead, moves rows that came before their partition did, and drops those
// that are older than a deployment keeps.
//
// It promises: a run can be repeated and made by several replicas at once; a row is in
// its table at every moment; what ended in the default partition is told of by a metric
// and a log line, and is moved by the next run.
package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/jobs"
)

// Policy of the partitions, read from PURSER_HISTORY_*.
type Policy struct {
	// Ahead is for how many months after the present one partitions are made: 1 to 24.
	Ahead int `env:"MONTHS_AHEAD" envDefault:"3"`
	// RetentionMonths is how many whole months of the history before the present one are kept; 0 for all.
	// What is asked for again is read again. Each service says what of its history that is.
	RetentionMonths int `env:"RETENTION_MONTHS" envDefault:"0"`
}

// Validate reports every error in p.
func (p Policy) Validate() error {
	var found []error
	if p.Ahead < 1 || p.Ahead > 24 {
		found = append(found, errors.New("PURSER_HISTORY_MONTHS_AHEAD must be 1 to 24"))
	}
	if p.RetentionMonths < 0 || p.RetentionMonths > 1200 {
		found = append(found, errors.New("PURSER_HISTORY_RETENTION_MONTHS must be 0, for all, to 1200"))
	}
	return errors.Join(found...)
}

// Oldest is the first month that is kept; zero for all.
func (p Policy) Oldest(now time.Time) time.Time {
	if p.RetentionMonths == 0 {
		return time.Time{}
	}
	return Month(now).AddDate(0, -p.RetentionMonths, 0)
}

// Table is a table with monthly partitions, which are named TABLE_YYYYMM, and a default one, TABLE_default.
type Table struct {
	Name string
	// Hour is the column, a timestamptz, that says which month a row is of.
	Hour string
	// Dropped: its months are dropped when they are older than Policy.RetentionMonths.
	Dropped bool
}

// Partition is a month of a table, or its default partition.
type Partition struct {
	Table, Name string
	// Month is its first instant, UTC; zero of the default partition.
	Month time.Time
	Bytes int64 // with indexes
	// Rows as the planner last counted them, -1 if it never did; of the default partition exactly.
	Rows int64
}

// Store has the partitions of some tables. *Partitions implements it.
type Store interface {
	// Tables returns the tables.
	Tables() []Table
	// List returns the partitions by table and month, the default partition last.
	List(ctx context.Context) ([]Partition, error)
	// Make makes the partition of a month, with the rows of it that are in the default
	// partition, and reports whether it was missing.
	Make(ctx context.Context, table string, month time.Time) (made bool, err error)
	// Drop drops the partition of a month with its rows; nothing if there is none.
	Drop(ctx context.Context, table string, month time.Time) error
	// Misplaced returns the months of which rows are in the default partition.
	Misplaced(ctx context.Context, t Table) ([]time.Time, error)
}

// Maker makes and drops partitions.
type Maker struct {
	store     Store
	before    func(ctx context.Context, oldest time.Time) error // BeforeDrop
	policy    Policy
	log       *slog.Logger
	now       func() time.Time
	misplaced metric.Int64Gauge
	ahead     metric.Int64Gauge
}

// NewMaker returns a Maker.
func NewMaker(s Store, p Policy, log *slog.Logger, now func() time.Time) *Maker {
	m := &Maker{store: s, policy: p, log: log, now: now}
	meter := otel.Meter("purser/partitions")
	m.misplaced, _ = meter.Int64Gauge("history_default_rows",
		metric.WithDescription("Rows of the history without a partition of their month, after a run."))
	m.ahead, _ = meter.Int64Gauge("history_months_ahead",
		metric.WithDescription("Months after the present one that have a partition, after a run."))
	return m
}

// BeforeDrop has do called before months are dropped, with the first one that is kept; when it fails none is. It
// returns m, and is called before m is used.
func (m *Maker) BeforeDrop(do func(ctx context.Context, oldest time.Time) error) *Maker {
	m.before = do
	return m
}

// Job returns the hourly job that makes and drops partitions. timeout bounds a run; what is left is for the next one.
func (m *Maker) Job(timeout time.Duration) jobs.Job {
	return jobs.Job{
		Name: "make_partitions", Cron: "37 * * * *", Timeout: timeout, CatchUp: jobs.CatchUpSkip,
		Run: func(ctx context.Context, _ *jobs.Run) error { return m.Run(ctx) },
	}
}

// Run makes and drops what is due. Its error names what failed; the rest is done.
func (m *Maker) Run(ctx context.Context) error {
	now := m.now()
	present := Month(now)
	var failed []error
	for _, t := range m.store.Tables() {
		failed = append(failed, m.fill(ctx, t, present))
	}
	if oldest := m.policy.Oldest(now); !oldest.IsZero() {
		failed = append(failed, m.dropAll(ctx, oldest))
	}
	return errors.Join(append(failed, m.record(ctx, present))...)
}

func (m *Maker) dropAll(ctx context.Context, oldest time.Time) error {
	if m.before != nil {
		if err := m.before(ctx, oldest); err != nil {
			return err
		}
	}
	var failed []error
	for _, t := range m.store.Tables() {
		if t.Dropped {
			failed = append(failed, m.drop(ctx, t, oldest))
		}
	}
	return errors.Join(failed...)
}

func (m *Maker) fill(ctx context.Context, t Table, present time.Time) error {
	late, err := m.store.Misplaced(ctx, t)
	if err != nil {
		return err
	}
	if len(late) > 0 {
		m.log.WarnContext(ctx, "rows of the history had no partition", "table", t.Name, "months", texts(late))
	}
	var failed []error
	for i := range m.policy.Ahead + 1 {
		late = append(late, present.AddDate(0, i, 0))
	}
	for _, month := range late {
		made, err := m.store.Make(ctx, t.Name, month)
		if err != nil {
			failed = append(failed, err)
		} else if made {
			m.log.InfoContext(ctx, "partition made", "table", t.Name, "month", month.Format(time.DateOnly))
		}
	}
	return errors.Join(failed...)
}

func (m *Maker) drop(ctx context.Context, t Table, oldest time.Time) error {
	list, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range list {
		if p.Table != t.Name || p.Month.IsZero() || !p.Month.Before(oldest) {
			continue
		}
		if err := m.store.Drop(ctx, t.Name, p.Month); err != nil {
			failed = append(failed, err)
			continue
		}
		m.log.InfoContext(ctx, "partition dropped", "table", t.Name, "month", p.Month.Format(time.DateOnly))
	}
	return errors.Join(failed...)
}

func (m *Maker) record(ctx context.Context, present time.Time) error {
	list, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	for _, t := range m.store.Tables() {
		of := metric.WithAttributes(attribute.String("table", t.Name))
		m.ahead.Record(ctx, int64(Ahead(list, t.Name, present)), of)
		for _, p := range list {
			if p.Table == t.Name && p.Month.IsZero() {
				m.misplaced.Record(ctx, p.Rows, of)
			}
		}
	}
	return nil
}

// Ahead is how many months after the present one, without a gap, have a partition; -1 if the present one has none.
func Ahead(list []Partition, table string, present time.Time) int {
	have := map[time.Time]bool{}
	for _, p := range list {
		if p.Table == table {
			have[p.Month.UTC()] = true
		}
	}
	n := -1
	for have[present.AddDate(0, n+1, 0)] {
		n++
	}
	return n
}

// Month is the first instant of a time's month, UTC.
func Month(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func texts(months []time.Time) []string {
	out := make([]string, len(months))
	for i, m := range months {
		out[i] = fmt.Sprint(m.Format("2006-01"))
	}
	return out
}
