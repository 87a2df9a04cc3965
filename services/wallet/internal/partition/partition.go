// Package partition keeps the monthly partitions of the history: it makes those of the
// coming months ahead, moves rows that came before their partition did, and drops those
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
)

// Policy of the partitions, read from PURSER_HISTORY_*.
type Policy struct {
	// Ahead is for how many months after the present one partitions are made: 1 to 24.
	Ahead int `env:"MONTHS_AHEAD" envDefault:"3"`
	// KeptMonths is how many whole months of balances before the present one are kept; 0 for all.
	// What is asked for again is read again.
	KeptMonths int `env:"KEPT_MONTHS" envDefault:"0"`
}

// Validate reports every error in p.
func (p Policy) Validate() error {
	var found []error
	if p.Ahead < 1 || p.Ahead > 24 {
		found = append(found, errors.New("PURSER_HISTORY_MONTHS_AHEAD must be 1 to 24"))
	}
	if p.KeptMonths < 0 || p.KeptMonths > 1200 {
		found = append(found, errors.New("PURSER_HISTORY_KEPT_MONTHS must be 0, for all, to 1200"))
	}
	return errors.Join(found...)
}

// Table is a partitioned table.
type Table struct {
	Name string
	// Kept: its months are dropped when they are old.
	Kept bool
}

// Tables are the tables with monthly partitions. Prices are everybody's, and kept.
func Tables() []Table {
	return []Table{{"wallet_history", true}, {"balance_history", true}, {"price_history", false}}
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

// Store has the partitions.
type Store interface {
	// List returns the partitions by table and month, the default partition last.
	List(ctx context.Context) ([]Partition, error)
	// Make makes the partition of a month, with the rows of it that are in the default
	// partition, and reports whether it was missing.
	Make(ctx context.Context, table string, month time.Time) (made bool, err error)
	// Drop drops the partition of a month with its rows; nothing if there is none.
	Drop(ctx context.Context, table string, month time.Time) error
	// Misplaced returns the months of which rows are in the default partition.
	Misplaced(ctx context.Context, table string) ([]time.Time, error)
}

// Maker makes and drops partitions.
type Maker struct {
	store     Store
	policy    Policy
	log       *slog.Logger
	now       func() time.Time
	misplaced metric.Int64Gauge
	ahead     metric.Int64Gauge
}

// NewMaker returns a Maker.
func NewMaker(s Store, p Policy, log *slog.Logger, now func() time.Time) *Maker {
	m := &Maker{store: s, policy: p, log: log, now: now}
	meter := otel.Meter("purser/wallet/partitions")
	m.misplaced, _ = meter.Int64Gauge("history_default_rows",
		metric.WithDescription("Rows of the history without a partition of their month, after a run."))
	m.ahead, _ = meter.Int64Gauge("history_months_ahead",
		metric.WithDescription("Months after the present one that have a partition, after a run."))
	return m
}

// Run makes and drops what is due. Its error names what failed; the rest is done.
func (m *Maker) Run(ctx context.Context) error {
	present := Month(m.now())
	var failed []error
	for _, t := range Tables() {
		failed = append(failed, m.fill(ctx, t, present), m.drop(ctx, t, present))
	}
	return errors.Join(append(failed, m.record(ctx, present))...)
}

func (m *Maker) fill(ctx context.Context, t Table, present time.Time) error {
	late, err := m.store.Misplaced(ctx, t.Name)
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

func (m *Maker) drop(ctx context.Context, t Table, present time.Time) error {
	if !t.Kept || m.policy.KeptMonths == 0 {
		return nil
	}
	list, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	oldest := present.AddDate(0, -m.policy.KeptMonths, 0)
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
	for _, t := range Tables() {
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
